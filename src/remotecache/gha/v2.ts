import { randomBytes } from 'node:crypto';
import { BuildError } from '../../base/errors.ts';
import { Semaphore } from '../../base/semaphore.ts';
import { bytesBody, type HttpBody } from '../../registry/http.ts';
import { inParts, jsonBody, PARALLEL_PARTS, PART_BYTES, type Part, partBody } from './parts.ts';
import { type CallContext, type Requests, TakenError } from './requests.ts';
import {
  type Blob,
  type CacheService,
  ENTRY_VERSION,
  type Entry,
  type Send,
  type ServiceAccess,
} from './service.ts';
import { entryUrl } from './v1.ts';

const SERVICE = 'twirp/github.actions.results.api.v1.CacheService';
/** Of Azure's API, old enough for every server that speaks it. */
const STORAGE_VERSION = '2020-10-02';

/** The second version of the service: Twirp, and blobs in Azure's storage at signed addresses (FEATURES K15). */
export class SecondService implements CacheService {
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
    const wanted = { key, restore_keys: [key], version: ENTRY_VERSION };
    const answer = await this.#call('GetCacheEntryDownloadURL', wanted, context);
    if (answer.ok !== true) return undefined;
    const { matched_key: matched } = answer;
    return { key: typeof matched === 'string' ? matched : key, url: entryUrl(answer.signed_download_url) };
  }

  async reserve(key: string, context: CallContext): Promise<Send> {
    const answer = await this.#call('CreateCacheEntry', { key, version: ENTRY_VERSION }, context);
    if (answer.ok !== true) throw refused('failed to reserve cache', answer);
    const url = entryUrl(answer.signed_upload_url);
    return async (blob, own) => {
      await this.#upload(url, blob, own);
      const size = { key, size_bytes: blob.size, version: ENTRY_VERSION };
      const done = await this.#call('FinalizeCacheEntryUpload', size, own);
      if (done.ok !== true) throw refused('failed to commit cache', done);
    };
  }

  /** Put Blob, or Put Block and Put Block List, of Azure's Blob service. */
  async #upload(url: URL, blob: Blob, context: CallContext): Promise<void> {
    const put = (target: URL, body: HttpBody, signal: AbortSignal, more = {}): Promise<void> => {
      const headers = { 'x-ms-version': STORAGE_VERSION, ...more };
      return this.#requests.done({ method: 'PUT', url: target, headers, body }, { ...context, signal });
    };
    const { signal } = context;
    if (blob.size <= this.#partBytes) {
      const type = { 'x-ms-blob-type': 'BlockBlob', 'content-type': 'application/octet-stream' };
      const whole = partBody(blob, { offset: 0, size: blob.size });
      await this.#slots.run(() => put(url, whole, signal, type), signal);
      return;
    }
    const name = randomBytes(16);
    const send = (part: Part, own: AbortSignal): Promise<void> => {
      const id = encodeURIComponent(blockId(name, part.index));
      return put(withQuery(url, `comp=block&blockid=${id}`), partBody(blob, part), own);
    };
    const blocks = await inParts(blob.size, this.#partBytes, this.#slots, send, signal);
    const list = blocks.map(({ index }) => `<Latest>${blockId(name, index)}</Latest>`).join('');
    const xml = Buffer.from(`<?xml version="1.0" encoding="utf-8"?><BlockList>${list}</BlockList>`);
    const type = { 'content-type': 'application/xml' };
    await put(withQuery(url, 'comp=blocklist'), bytesBody(xml), signal, type);
  }

  async #call(method: string, message: unknown, context: CallContext): Promise<Record<string, unknown>> {
    const url = new URL(this.#url);
    url.pathname = `${url.pathname.replace(/\/+$/, '')}/${SERVICE}/${method}`;
    const headers = { 'content-type': 'application/json' };
    const request = { method: 'POST', url, token: this.#token, headers, body: jsonBody(message) } as const;
    return (await this.#requests.json(request, context)) ?? {};
  }
}

/** What is not ok may say why: the key is taken, or the repository writes no caches for now. */
function refused(failure: string, { message }: Record<string, unknown>): BuildError {
  if (typeof message !== 'string' || message === '') return new BuildError(failure);
  const text = `${failure}: ${message}`;
  return /already exists/i.test(message) ? new TakenError(text) : new BuildError(text);
}

/** The signature is over the query as it stands: nothing of it may be written otherwise. */
function withQuery(url: URL, more: string): URL {
  const target = new URL(url);
  target.search = url.search === '' ? more : `${url.search}&${more}`;
  return target;
}

/** All of one blob have the same length, as the service wants it. */
function blockId(name: Uint8Array, index: number): string {
  const id = Buffer.alloc(name.length + 4);
  id.set(name);
  id.writeUInt32BE(index, name.length);
  return id.toString('base64');
}
