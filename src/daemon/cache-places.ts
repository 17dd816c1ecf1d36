import { type Digest, isDigest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { Compression } from '../cache/ref.ts';
import { parseCompression } from '../exporter/attrs.ts';
import { type AzblobCacheServices, azblobOrigin, azblobSink } from '../remotecache/azblob/cache.ts';
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
import { type S3CacheServices, s3Origin, s3Sink } from '../remotecache/s3/cache.ts';
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
  const cloud = { http: worker.http, env: process.env, layerProgress };
  const types = new Map<string, CachePlaces>([
    ['registry', registryPlaces(worker)],
    ['local', localPlaces(manager)],
    ['s3', s3Places(cloud)],
    ['azblob', azblobPlaces(cloud)],
    ['gha', ghaPlaces(worker, ghaOptions)],
  ]);
  return {
    target: (entry, sessions) => {
      const places = types.get(entry.type);
      if (!places) throw new BuildError(`unknown cache exporter: ${JSON.stringify(entry.type)}`);
      return places.target(entry, sessions);
    },
    origin: (entry, sessions) => {
      const places = types.get(entry.type);
      if (!places) throw new BuildError(`unknown cache importer: ${entry.type}`);
      return places.origin(entry, sessions);
    },
  };
}

function registryPlaces(worker: Worker): CachePlaces {
  const services: RegistryCacheServices = {
    registry: worker.registry,
    content: worker.store.content,
    credentials: (sessions) => worker.sources.credentials.of(sessions),
    layerProgress,
  };
  return {
    target: (entry, sessions) => {
      const compression = parseCompression(entry.attrs);
      const reference = cacheReference(entry.attrs.ref);
      const form = formOf(entry);
      const place = { reference, insecure: cacheFlag(entry, 'registry.insecure', false) };
      const sink = registrySink(place, services, sessions);
      return { name: 'exporting cache to registry', compression, write: writer(sink, form) };
    },
    origin: (entry, sessions) => {
      const reference = cacheReference(entry.attrs.ref);
      const place = { reference, insecure: cacheFlag(entry, 'registry.insecure', false) };
      return manifestPlace(registryOrigin(place, services, sessions));
    },
  };
}

function localPlaces(manager: SessionManager): CachePlaces {
  const store =
    (dir: string, sessions: Sessions): OpenStore =>
    (signal) => {
      const [id] = sessions();
      if (id === undefined) throw new BuildError('local cache exporter/importer requires session');
      return manager
        .get(id, AbortSignal.any([signal, AbortSignal.timeout(SESSION_WAIT_MS)]))
        .then((session) => sessionContent(session, localStoreId(dir)));
    };
  return {
    target: (entry, sessions) => {
      const { dest } = entry.attrs;
      if (!dest) throw new BuildError('local cache exporter requires dest');
      const compression = parseCompression(entry.attrs);
      const form = formOf(entry);
      const sink = localSink(store(dest, sessions));
      return { name: 'exporting cache to client directory', compression, write: writer(sink, form) };
    },
    origin: (entry, sessions) => {
      const { src } = entry.attrs;
      const digest = localDigest(entry);
      if (!src) throw new BuildError('local cache importer requires src');
      return manifestPlace(localOrigin(digest, store(src, sessions), layerProgress));
    },
  };
}

function s3Places(services: S3CacheServices): CachePlaces {
  return {
    target: ({ attrs }) => {
      const write = objectWriter(s3Sink(attrs, services));
      return { name: 'exporting cache to Amazon S3', compression: parseCompression({}), write };
    },
    origin: ({ attrs }) => objectPlace(async () => s3Origin(attrs, services)),
  };
}

function azblobPlaces(services: AzblobCacheServices): CachePlaces {
  const name = 'exporting cache to Azure Blob Storage';
  return {
    target: ({ attrs }) => {
      const sink = azblobSink(attrs, services);
      return { name, compression: parseCompression({}), prepare: sink.prepare, write: objectWriter(sink) };
    },
    origin: ({ attrs }) => objectPlace((signal) => azblobOrigin(attrs, services, signal)),
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
