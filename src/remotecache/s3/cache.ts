import type { Digest } from '../../base/digest.ts';
import { Semaphore } from '../../base/semaphore.ts';
import type { LayerProgress } from '../../cache/ref.ts';
import type { VertexProgress } from '../../solver/types.ts';
import type { HttpClient } from '../../registry/http.ts';
import { storeError } from '../cloud/errors.ts';
import { askingOnce } from '../cloud/known.ts';
import { failing } from '../export.ts';
import type { ObjectOrigin, ObjectSink } from '../object-cache.ts';
import { parseS3Attrs, type S3Config } from './attrs.ts';
import { S3Client } from './client.ts';
import { credentialsFor } from './credentials.ts';
import { S3Objects } from './objects.ts';

export interface S3CacheServices {
  readonly http: Pick<HttpClient, 'send'>;
  /** Of the daemon. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly layerProgress: (progress: VertexProgress) => LayerProgress;
}

type Attrs = Readonly<Record<string, string>>;

/** Puts a cache into a bucket (FEATURES K17, K18). @throws BuildError for bad attributes */
export function s3Sink(attrs: Attrs, services: S3CacheServices): ObjectSink {
  const { config, objects, blobKey } = open(attrs, services);
  return {
    parallel: config.uploadParallelism,
    has: async ({ digest }, { signal }) => {
      const key = blobKey(digest);
      const known = await failing('failed to check file presence in cache', () => objects.head(key, signal));
      if (!known) return false;
      if (Date.now() - known.modifiedAt.getTime() > config.touchRefreshMs)
        await failing('failed to touch file', () => objects.touch(key, known.sizeBytes, signal));
      return true;
    },
    put: ({ digest, size }, content, { signal }) => objects.put(blobKey(digest), content(0), size, signal),
    putConfig: async (json, { signal }) => {
      for (const name of config.names) {
        const content = async function* () {
          yield json;
        };
        const key = `${config.prefix}${config.manifestsPrefix}${name}`;
        await failing(`error writing manifest: ${name}`, () =>
          objects.put(key, content(), json.length, signal),
        );
      }
    },
  };
}

/** Reads a cache from a bucket, of several names the first. @throws BuildError for bad attributes */
export function s3Origin(attrs: Attrs, services: S3CacheServices): ObjectOrigin {
  const { config, objects, blobKey } = open(attrs, services);
  const has = askingOnce((digest, signal) => isThere(objects, blobKey(digest), signal));
  return {
    configs: async (maxBytes, { signal }) => {
      const key = `${config.prefix}${config.manifestsPrefix}${config.names[0]}`;
      return [await objects.get(key, maxBytes, signal)];
    },
    provider: ({ progress }) => ({
      open: ({ digest, size }, offset, { signal }) =>
        objects.read(blobKey(digest), { name: digest, size }, offset, signal),
      has,
      progress: services.layerProgress(progress),
    }),
  };
}

/** Rules of a bucket drop layers; one that must not be listed calls them denied. */
async function isThere(objects: S3Objects, key: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await objects.head(key, signal)) !== undefined;
  } catch (error) {
    if (storeError(error)?.status === 403) return false;
    throw error;
  }
}

function open(
  attrs: Attrs,
  { http, env }: S3CacheServices,
): { config: S3Config; objects: S3Objects; blobKey: (digest: Digest) => string } {
  const config = parseS3Attrs(attrs, env);
  const client = new S3Client(config, { http, credentials: credentialsFor(config, { http, env }) });
  const objects = new S3Objects(client, new Semaphore(config.uploadParallelism));
  return { config, objects, blobKey: (digest) => `${config.prefix}${config.blobsPrefix}${digest}` };
}
