import type { Digest } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { BlobProvider, ImmutableRef, RefManager } from '../cache/ref.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { CacheSource, LoadContext } from '../solver/sources.ts';
import type { VertexProgress } from '../solver/types.ts';
import { decodeConfig } from './config.ts';
import { importedCache, type ImportedLayers } from './graph.ts';
import { readInline } from './inline-import.ts';
import { MAX_CACHE_BLOB_BYTES } from './limits.ts';
import { decodeCacheManifest } from './manifest.ts';
import { parseChains } from './parse.ts';
import { oneOff } from './status.ts';

/** Where a cache comes from. */
export interface CacheOrigin {
  /** Of the manifest. */
  resolve(signal: AbortSignal): Promise<Descriptor>;
  /** A small blob, digest checked. Refuses more than `maxBytes`. */
  fetchAll(descriptor: Descriptor, maxBytes: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Reads layers on behalf of those who want them, who may be other builds. */
  provider(context: LoadContext): BlobProvider;
  /** Says of a layer where it is, so that a push need not send it. */
  locate?(layer: Descriptor): Descriptor;
  /** The origin does not outlive the build. */
  readonly eager: boolean;
}

export interface CacheImportServices {
  readonly refs: Pick<RefManager, 'getByBlob'>;
}

export interface CacheImportContext {
  readonly signal: AbortSignal;
  readonly progress: VertexProgress;
}

/** Reads the caches of a place that has been reached; `id` tells their results from those of others. */
export type CacheReader = (
  id: string,
  services: CacheImportServices,
  context: CacheImportContext,
) => Promise<readonly CacheSource<ImmutableRef>[]>;

/** A place to import from. What fails in `resolve` is a place that cannot be reached or used. */
export interface CachePlace {
  resolve(signal: AbortSignal): Promise<CacheReader>;
}

/** A place with manifests. */
export function manifestPlace(origin: CacheOrigin): CachePlace {
  return {
    resolve: async (signal) => {
      const root = await origin.resolve(signal);
      return (id, services, context) => readCache(origin, root, id, services, context);
    },
  };
}

/** Reads the cache of manifest `root`, or the caches that images carry inside (FEATURES K8, K9). */
export async function readCache(
  origin: CacheOrigin,
  root: Descriptor,
  id: string,
  services: CacheImportServices,
  context: CacheImportContext,
): Promise<readonly CacheSource<ImmutableRef>[]> {
  const data = await readSmall(origin, root, context.signal);
  const { mediaType, blobs, config } = decodeCacheManifest(data);
  await oneOff(context.progress, `inferred cache manifest type: ${mediaType}`, async () => {});
  const layers: ImportedLayers = {
    refs: services.refs,
    provider: (load) => origin.provider(load),
    eager: origin.eager,
  };
  if (!config) {
    const caches = await readInline(origin, data, context.signal);
    return caches.map((chains, i) => importedCache(chains, `${id}#${i}`, layers));
  }
  const json = await readSmall(origin, config, context.signal);
  const chains = parseChains(decodeConfig(json), located(blobs, origin));
  return [importedCache(chains, id, layers)];
}

function located(blobs: ReadonlyMap<Digest, Descriptor>, origin: CacheOrigin): Map<Digest, Descriptor> {
  return new Map([...blobs].map(([digest, layer]) => [digest, origin.locate?.(layer) ?? layer]));
}

async function readSmall(
  origin: CacheOrigin,
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { digest, size } = descriptor;
  if (size > MAX_CACHE_BLOB_BYTES)
    throw new BuildError(`blob ${digest} is too large (${size} > ${MAX_CACHE_BLOB_BYTES})`, {
      code: Code.resourceExhausted,
    });
  return await origin.fetchAll(descriptor, MAX_CACHE_BLOB_BYTES, signal);
}
