import { type Digest, digestOf } from '../../base/digest.ts';
import { BuildError, Code, notFound } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { LayerProgress } from '../../cache/ref.ts';
import { together } from '../../cache/together.ts';
import { statusIn } from '../../registry/errors.ts';
import type { HttpResponse } from '../../registry/response.ts';
import { resumed } from '../../registry/resume.ts';
import type { VertexProgress } from '../../solver/types.ts';
import type { ContentStore } from '../../store/content.ts';
import type { CacheExportContext } from '../export.ts';
import type { ObjectOrigin, ObjectSink } from '../object-cache.ts';
import { type GhaConfig, writeScope } from './config.ts';
import { listKeys } from './listing.ts';
import { findMutable, saveMutable } from './mutable.ts';
import { inMemory } from './parts.ts';
import { type CallContext, isTaken, type RequestParts, Requests } from './requests.ts';
import type { CacheService, Entry, Send } from './service.ts';
import { FirstService } from './v1.ts';
import { SecondService } from './v2.ts';

const PARALLEL_LAYERS = 4;
const BLOB_PREFIX = 'buildkit-blob-1-';

export interface GhaServices extends RequestParts {
  /** GitHub's REST API, `https://api.github.com`. */
  readonly api: string;
  readonly content: Pick<ContentStore, 'has'>;
  readonly log: Logger;
  readonly layerProgress: (progress: VertexProgress) => LayerProgress;
}

/** Puts a cache into GitHub's cache service (FEATURES K13). */
export function ghaSink(config: GhaConfig, services: GhaServices): ObjectSink {
  const requests = new Requests(services, config.timeoutMs);
  const service = serviceOf(config, requests);
  let listed: Promise<ReadonlySet<string> | undefined> | undefined;
  return {
    parallel: PARALLEL_LAYERS,
    has: async ({ digest }, context) => {
      listed ??= listedKeys(config, services, requests, callOf(context));
      const keys = await listed;
      const key = blobKey(digest);
      return keys ? keys.has(key) : isBlob(await service.find(key, callOf(context)), key);
    },
    put: async ({ digest, size }, open, context) => {
      const call = callOf(context);
      const send = await reserved(service, blobKey(digest), call);
      await send?.({ size, open }, call);
    },
    putConfig: (json, context) =>
      saveMutable(service, indexKey(config, writeScope(config)), inMemory(json), callOf(context)),
  };
}

/** Reads caches from GitHub's cache service: that of each scope of the token, in its order. */
export function ghaOrigin(config: GhaConfig, services: GhaServices): ObjectOrigin {
  const requests = new Requests(services, config.timeoutMs);
  const service = serviceOf(config, requests);
  const blobs = new Entries(service);
  return {
    configs: (maxBytes, { signal }) =>
      together(
        config.scopes.map(({ name }) => async (own: AbortSignal) => {
          const context = { signal: own };
          const entry = await findMutable(service, indexKey(config, name), context);
          return entry && (await readAll(requests, entry, maxBytes, context));
        }),
        signal,
      ),
    provider: (load) => ({
      open: ({ digest, size }, offset, { signal }) => {
        const context = { signal };
        const open = (at: number): Promise<HttpResponse> => openBlob(requests, blobs, digest, at, context);
        return resumed(open, { name: digest, size }, offset, context);
      },
      has: async ({ digest }, { signal }) =>
        services.content.has(digest) || (await blobs.find(digest, { signal })) !== undefined,
      progress: services.layerProgress(load.progress),
    }),
  };
}

function serviceOf(config: GhaConfig, requests: Requests): CacheService {
  return config.version === 1 ? new FirstService(requests, config) : new SecondService(requests, config);
}

function callOf({ signal, progress }: CacheExportContext): CallContext {
  return { signal, log: (line) => progress.log(2, Buffer.from(line)) };
}

function blobKey(digest: Digest): string {
  return `${BLOB_PREFIX}${digest}`;
}

/** Of the states of the index that was written with a scope of the service. */
function indexKey({ scope }: GhaConfig, serviceScope: string): string {
  const start = 'sha256:'.length;
  return `index-${scope}-1-${digestOf(serviceScope).slice(start, start + 8)}`;
}

/** The service gives entries whose keys only start with the wanted one, too. */
function isBlob(entry: Entry | undefined, key: string): entry is Entry {
  return entry?.key === key;
}

/** undefined when another build has sent it, or is about to. */
async function reserved(service: CacheService, key: string, context: CallContext): Promise<Send | undefined> {
  try {
    return await service.reserve(key, context);
  } catch (error) {
    if (isTaken(error)) return undefined;
    throw error;
  }
}

/** What is there already; undefined when that cannot be asked for as a whole. */
async function listedKeys(
  { listing, scopes }: GhaConfig,
  { api, log }: GhaServices,
  requests: Requests,
  context: CallContext,
): Promise<ReadonlySet<string> | undefined> {
  if (!listing) return undefined;
  const repository = { api, name: listing.repository, token: listing.token };
  const names = scopes.map(({ name }) => name);
  try {
    return await listKeys(requests, repository, BLOB_PREFIX, names, context);
  } catch (error) {
    context.signal.throwIfAborted();
    log.warn('could not list the keys of a GitHub Actions cache: each is asked for', { error });
    return undefined;
  }
}

/** The blobs that were found, each asked for once. */
class Entries {
  readonly #service: CacheService;
  readonly #known = new Map<Digest, Entry>();

  constructor(service: CacheService) {
    this.#service = service;
  }

  async find(digest: Digest, context: CallContext): Promise<Entry | undefined> {
    const known = this.#known.get(digest);
    if (known) return known;
    const key = blobKey(digest);
    const entry = await this.#service.find(key, context);
    if (!isBlob(entry, key)) return undefined;
    this.#known.set(digest, entry);
    return entry;
  }

  forget(digest: Digest): void {
    this.#known.delete(digest);
  }
}

/** An address may have ended, or its blob may have gone since: then the service is asked once more. */
async function openBlob(
  requests: Requests,
  blobs: Entries,
  digest: Digest,
  offset: number,
  context: CallContext,
): Promise<HttpResponse> {
  for (let again = false; ; again = true) {
    const entry = await blobs.find(digest, context);
    if (!entry) throw notFound(`blob ${digest}: not found in the GitHub Actions cache`);
    try {
      return await openEntry(requests, entry, offset, context);
    } catch (error) {
      if (again || ![401, 403, 404].includes(statusIn(error))) throw error;
      blobs.forget(digest);
    }
  }
}

function openEntry(
  requests: Requests,
  { url }: Entry,
  offset: number,
  context: CallContext,
): Promise<HttpResponse> {
  const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
  const headers = { 'accept-encoding': 'identity', ...range };
  return requests.send({ method: 'GET', url, headers }, async (response) => response, context);
}

/** A small entry as a whole. */
async function readAll(
  requests: Requests,
  entry: Entry,
  maxBytes: number,
  context: CallContext,
): Promise<Uint8Array> {
  const headers = { 'accept-encoding': 'identity' };
  const request = { method: 'GET', url: entry.url, headers } as const;
  const data = await requests.send(request, (response) => response.bytes(maxBytes + 1), context);
  if (data.length > maxBytes)
    throw new BuildError(`cache index ${entry.key} is too large (more than ${maxBytes} bytes)`, {
      code: Code.resourceExhausted,
    });
  return data;
}
