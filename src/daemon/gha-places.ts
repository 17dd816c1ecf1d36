import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { parseCompression } from '../exporter/attrs.ts';
import { ghaConfig } from '../remotecache/gha/config.ts';
import { ghaOrigin, type GhaServices, ghaSink } from '../remotecache/gha/place.ts';
import type { CachePlace } from '../remotecache/import.ts';
import { objectReader, objectWriter } from '../remotecache/object-cache.ts';
import type { CacheEntry } from './cache-options.ts';
import type { CacheTarget } from './cache-places.ts';
import type { DaemonConfig } from './config.ts';
import { layerProgress } from './layer-progress.ts';
import type { Worker } from './worker.ts';

/** What the daemon was told about caches in GitHub's cache service. */
export interface GhaOptions {
  /** They must be signed. */
  readonly signed: boolean;
  readonly api: string;
  readonly log: Logger;
}

export interface GhaPlaces {
  target(entry: CacheEntry): CacheTarget;
  origin(entry: CacheEntry): CachePlace;
}

export function ghaOptions({ signedGha, env }: DaemonConfig, log: Logger): GhaOptions {
  return { signed: signedGha, api: env.githubApi, log };
}

/** Caches of type `gha` (FEATURES K12). Both throw for bad attributes. */
export function ghaPlaces(worker: Pick<Worker, 'http' | 'store'>, options: GhaOptions): GhaPlaces {
  const services = (): GhaServices => {
    if (options.signed)
      throw new BuildError(
        'signed caches of GitHub Actions are not built yet, and the configuration of the daemon wants them ' +
          '(ghacache.sign, ghacache.verify)',
        { code: Code.unimplemented },
      );
    const { http, store } = worker;
    return { http, content: store.content, api: options.api, log: options.log, layerProgress };
  };
  return {
    target: (entry) => {
      const sink = ghaSink(ghaConfig(entry.attrs), services());
      const compression = parseCompression({});
      return { name: 'exporting to GitHub Actions Cache', compression, write: objectWriter(sink) };
    },
    origin: (entry) => ({
      resolve: async () => objectReader(ghaOrigin(ghaConfig(entry.attrs), services())),
    }),
  };
}
