import { BuildError } from '../../base/errors.ts';
import { Semaphore } from '../../base/semaphore.ts';
import { inParts, jsonBody, PARALLEL_PARTS, PART_BYTES, type Part, partBody } from './parts.ts';
import type { CallContext, Requests, ServiceRequest } from './requests.ts';
import {
  type Blob,
  type CacheService,
  ENTRY_VERSION,
  type Entry,
  type Send,
  type ServiceAccess,
} from './service.ts';

const ACCEPT = 'application/json;api-version=6.0-preview.1';

/** The first version of the service: REST below `_apis/artifactcache/` (FEATURES K14). */
export class FirstService implements CacheService {
  readonly #requests: Requests;
  readonly #url: URL;
  readonly #token: string;
  readonly #partBytes: number;
  readonly #slots = new Semaphore(PARALLEL_PARTS);

  constructor(requests: Requests, { url, token }: ServiceAccess, partBytes = PART_BYTES) {
    this.#requests = requests;
    this.#url = url;
    this.#token = token;
    this.#partBytes = partBytes;
  }

  async find(key: string, context: CallContext): Promise<Entry | undefined> {
    const request = this.#request('GET', 'cache');
    request.url.searchParams.set('keys', key);
    request.url.searchParams.set('version', ENTRY_VERSION);
    const answer = await this.#requests.json(request, context);
    const { cacheKey, archiveLocation } = answer ?? {};
    if (typeof cacheKey !== 'string' || cacheKey === '') return undefined;
    return { key: cacheKey, url: entryUrl(archiveLocation) };
  }

  async reserve(key: string, context: CallContext): Promise<Send> {
    const request = this.#request('POST', 'caches', { key, version: ENTRY_VERSION });
    const answer = await this.#requests.json(request, context);
    const id = answer?.cacheId ?? answer?.cacheID;
    if (typeof id !== 'number' || id === 0)
      throw new BuildError('failed to reserve cache: no cacheId is given');
    return (blob, own) => this.#send(id, blob, own);
  }

  async #send(id: number, blob: Blob, context: CallContext): Promise<void> {
    const send = (part: Part, signal: AbortSignal): Promise<void> => {
      const range = `bytes ${part.offset}-${part.offset + part.size - 1}/*`;
      const request = {
        ...this.#request('PATCH', `caches/${id}`),
        headers: { accept: ACCEPT, 'content-type': 'application/octet-stream', 'content-range': range },
        body: partBody(blob, part),
      };
      return this.#requests.done(request, { ...context, signal });
    };
    await inParts(blob.size, this.#partBytes, this.#slots, send, context.signal);
    await this.#requests.done(this.#request('POST', `caches/${id}`, { size: blob.size }), context);
  }

  #request(method: ServiceRequest['method'], path: string, json?: unknown): ServiceRequest {
    const url = new URL(this.#url);
    url.pathname = `${url.pathname.replace(/\/+$/, '')}/_apis/artifactcache/${path}`;
    const type: Record<string, string> = json === undefined ? {} : { 'content-type': 'application/json' };
    return {
      method,
      url,
      token: this.#token,
      headers: { accept: ACCEPT, ...type },
      ...(json === undefined ? {} : { body: jsonBody(json) }),
    };
  }
}

/** Of a blob, as the service gives it. */
export function entryUrl(value: unknown): URL {
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new BuildError('the GitHub Actions cache service gave no usable address of a blob');
  return url;
}
