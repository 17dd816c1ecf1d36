import { type Digest, isDigest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { Compression } from '../cache/ref.ts';
import { parseCompression } from '../exporter/attrs.ts';
import { type CacheSink, type CacheWriter, writeCache } from '../remotecache/export.ts';
import { type CachePlace, manifestPlace } from '../remotecache/import.ts';
import { localOrigin, localSink, localStoreId, type OpenStore } from '../remotecache/local.ts';
import { type CacheForm, checkForm } from '../remotecache/manifest.ts';
import { objectPlace, objectWriter } from '../remotecache/object-cache.ts';
import {
  cacheReference,
  type RegistryCacheServices,
  registryOrigin,
  registrySink,
} from '../remotecache/registry.ts';
import { s3Origin, s3Sink } from '../remotecache/s3/cache.ts';
import { sessionContent } from '../session/caller/content.ts';
import type { SessionManager } from '../session/manager.ts';
import { type CacheEntry, cacheFlag } from './cache-options.ts';
import { type GhaOptions, ghaPlaces } from './gha-places.ts';
import { layerProgress } from './layer-progress.ts';
import type { Worker } from './worker.ts';

/** How long a cache waits for the session of its client, milliseconds. */
const SESSION_WAIT_MS = 5000;

/** An exported cache's place and form. */
export interface CacheTarget {
  /** Name of its vertex. */
  readonly name: string;
  readonly compression: Compression;
  /** Asks the place, before the build, whether it can be used. */
  prepare?(signal: AbortSignal): Promise<void>;
  readonly write: CacheWriter;
}

export type Sessions = () => readonly string[];

/** Where caches go to and come from, by the types of FEATURES K1. */
export interface CachePlaces {
  /** @throws BuildError for an unknown type or bad attributes */
  target(entry: CacheEntry, sessions: Sessions): CacheTarget;
  /** @throws BuildError for an unknown type or bad attributes */
  origin(entry: CacheEntry, sessions: Sessions): CachePlace;
}

export function cachePlaces(worker: Worker, manager: SessionManager, ghaOptions: GhaOptions): CachePlaces {
  const gha = ghaPlaces(worker, ghaOptions);
  const registry: RegistryCacheServices = {
    registry: worker.registry,
    content: worker.store.content,
    credentials: (sessions) => worker.sources.credentials.of(sessions),
    layerProgress,
  };
  const store =
    (dir: string, sessions: Sessions): OpenStore =>
    (signal) => {
      const [id] = sessions();
      if (id === undefined) throw new BuildError('local cache exporter/importer requires session');
      return manager
        .get(id, AbortSignal.any([signal, AbortSignal.timeout(SESSION_WAIT_MS)]))
        .then((session) => sessionContent(session, localStoreId(dir)));
    };
  const cloud = { http: worker.http, env: process.env, layerProgress };
  return {
    target: (entry, sessions) => {
      switch (entry.type) {
        case 'registry': {
          const compression = parseCompression(entry.attrs);
          const reference = cacheReference(entry.attrs.ref);
          const form = formOf(entry);
          const place = { reference, insecure: cacheFlag(entry, 'registry.insecure', false) };
          const sink = registrySink(place, registry, sessions);
          return { name: 'exporting cache to registry', compression, write: writer(sink, form) };
        }
        case 'local': {
          const { dest } = entry.attrs;
          if (!dest) throw new BuildError('local cache exporter requires dest');
          const compression = parseCompression(entry.attrs);
          const form = formOf(entry);
          const sink = localSink(store(dest, sessions));
          return { name: 'exporting cache to client directory', compression, write: writer(sink, form) };
        }
        case 's3': {
          const write = objectWriter(s3Sink(entry.attrs, cloud));
          return { name: 'exporting cache to Amazon S3', compression: parseCompression({}), write };
        }
        case 'gha':
          return gha.target(entry);
        default:
          throw new BuildError(`unknown cache exporter: ${JSON.stringify(entry.type)}`);
      }
    },
    origin: (entry, sessions) => {
      switch (entry.type) {
        case 'registry': {
          const reference = cacheReference(entry.attrs.ref);
          const place = { reference, insecure: cacheFlag(entry, 'registry.insecure', false) };
          return manifestPlace(registryOrigin(place, registry, sessions));
        }
        case 'local': {
          const { src } = entry.attrs;
          const digest = localDigest(entry);
          if (!src) throw new BuildError('local cache importer requires src');
          return manifestPlace(localOrigin(digest, store(src, sessions), layerProgress));
        }
        case 's3':
          return objectPlace(async () => s3Origin(entry.attrs, cloud));
        case 'gha':
          return gha.origin(entry);
        default:
          throw new BuildError(`unknown cache importer: ${entry.type}`);
      }
    },
  };
}

function writer(sink: CacheSink, form: CacheForm): CacheWriter {
  return (chains, content, context) => writeCache(chains, sink, form, content, context);
}

function localDigest({ attrs: { digest } }: CacheEntry): Digest {
  if (!digest) throw new BuildError('local cache importer requires explicit digest');
  if (!isDigest(digest)) throw new BuildError(`invalid digest ${JSON.stringify(digest)} of local cache`);
  return digest;
}

/** FEATURES K5, K6. */
function formOf(entry: CacheEntry): CacheForm {
  const oci = cacheFlag(entry, 'oci-mediatypes', true);
  const form = { oci, imageManifest: cacheFlag(entry, 'image-manifest', oci) };
  checkForm(form);
  return form;
}
