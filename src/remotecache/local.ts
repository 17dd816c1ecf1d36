import type { Digest } from '../base/digest.ts';
import { Code, hasCode } from '../base/errors.ts';
import type { LayerProgress } from '../cache/ref.ts';
import { fetchAll } from '../registry/pull.ts';
import { putBlob } from '../session/caller/content.ts';
import type { RemoteContent } from '../session/content.ts';
import type { LoadContext } from '../solver/sources.ts';
import type { VertexProgress } from '../solver/types.ts';
import type { CacheSink } from './export.ts';
import type { CacheOrigin } from './import.ts';

/** What clients call the content store of a folder. */
export function localStoreId(dir: string): string {
  return `local:${dir}`;
}

/** The client's store; it may take a moment until the client is there. */
export type OpenStore = (signal: AbortSignal) => Promise<RemoteContent>;

/** Puts a cache into a folder of the client, who names it in the folder's index (FEATURES K10). */
export function localSink(open: OpenStore): CacheSink {
  return {
    put: async (descriptor, data, { signal }) => {
      await putBlob(await open(signal), descriptor, data(0), { signal });
    },
  };
}

/** Reads a cache from a folder of the client (FEATURES K11). */
export function localOrigin(
  digest: Digest,
  open: OpenStore,
  layerProgress: (progress: VertexProgress) => LayerProgress,
): CacheOrigin {
  return {
    eager: true,
    resolve: async (signal) => {
      const { size } = await (await open(signal)).info(digest, signal);
      return { mediaType: '', digest, size };
    },
    fetchAll: async (descriptor, maxBytes, signal) => {
      const store = await open(signal);
      return fetchAll(store.read(descriptor.digest, { signal }), descriptor, maxBytes);
    },
    provider: (context: LoadContext) => ({
      open: async function* (descriptor, offset, { signal }) {
        yield* (await open(signal)).read(descriptor.digest, { offset, signal });
      },
      has: async ({ digest: blob }, { signal }) => {
        try {
          await (await open(signal)).info(blob, signal);
          return true;
        } catch (error) {
          if (hasCode(error, Code.notFound)) return false;
          throw error;
        }
      },
      progress: layerProgress(context.progress),
    }),
  };
}
