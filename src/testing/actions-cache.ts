import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ActionsCacheStore, Refusal, type StoredEntry } from './actions-cache-store.ts';
import type { Fault } from './registry.ts';

/** A scope of a token: 1 reads, 2 writes. */
export interface TokenScope {
  readonly Scope: string;
  readonly Permission: number;
}

export interface ActionsCacheOptions {
  /** What the token opens. Default: `refs/heads/main`, for reading and writing. */
  readonly scopes?: readonly TokenScope[];
  /** Instead of an answer. */
  readonly fault?: (request: { method: string; path: string; index: number }) => Fault | undefined;
  /** Uses that a signed address is good for. Default: any number. */
  readonly signedUses?: number;
}

const ACCEPT = 'application/json;api-version=6.0-preview.1';
const TWIRP = '/twirp/github.actions.results.api.v1.CacheService/';
/** For the REST API of `listing`. */
export const GITHUB_TOKEN = 'ghs_forListingOnly';

/**
 * A stand-in for GitHub's cache service, both versions of it, with the storage behind its signed addresses and the part
 * of GitHub's REST API that lists keys. What a client must not do is refused, and noted in `violations`.
 */
export class ActionsCache implements AsyncDisposable {
  readonly store = new ActionsCacheStore();
  /** `METHOD path`, without query, of all requests. */
  readonly requests: string[] = [];
  readonly violations: string[] = [];
  token: string;
  fault: ActionsCacheOptions['fault'];
  scopes: readonly TokenScope[];
  readonly #server: Server;
  readonly #signed = new Map<string, { readonly key: string; uses: number }>();
  readonly #signedUses: number;

  static async start(options: ActionsCacheOptions = {}): Promise<ActionsCache> {
    const cache = new ActionsCache(options);
    await once(cache.#server.listen(0, '127.0.0.1'), 'listening');
    return cache;
  }

  constructor(options: ActionsCacheOptions) {
    this.scopes = options.scopes ?? [{ Scope: 'refs/heads/main', Permission: 3 }];
    this.fault = options.fault;
    this.#signedUses = options.signedUses ?? Number.POSITIVE_INFINITY;
    this.token = actionsToken(this.scopes);
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: Error) => response.destroy(error));
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Attributes of a cache in a version. */
  attrs(version: 1 | 2): Record<string, string> {
    return { token: this.token, ...(version === 1 ? { url: this.url } : { url_v2: this.url }) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const method = request.method ?? '';
    this.requests.push(`${method} ${url.pathname}`);
    const fault = this.fault?.({ method, path: url.pathname, index: this.requests.length - 1 });
    if (fault) return await misbehave(fault, request, response, () => this.#handle(request, url));
    try {
      const { status = 200, headers = {}, body } = await this.#handle(request, url);
      response.writeHead(status, headers).end(body);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status === 400) this.violations.push(`${method} ${url.pathname}: ${error.message}`);
      response.writeHead(error.status, { 'content-type': 'application/json' }).end(error.json(url.pathname));
    }
  }

  async #handle(request: IncomingMessage, url: URL): Promise<Answer> {
    const body = await bytesOf(request);
    if (url.pathname.startsWith('/signed/')) return this.#storage(request, url, body);
    const wanted = url.pathname.startsWith('/repos/') ? GITHUB_TOKEN : this.token;
    if (request.headers.authorization !== `Bearer ${wanted}`) throw new Refusal(401, 'unauthorized');
    if (url.pathname.startsWith('/repos/')) return this.#list(url);
    if (url.pathname.startsWith('/_apis/artifactcache/')) {
      if (request.headers.accept !== ACCEPT) throw new Refusal(400, `accept: ${request.headers.accept}`);
      return this.#first(request, url, body);
    }
    if (url.pathname.startsWith(TWIRP) && request.method === 'POST') return this.#second(url, body);
    throw new Refusal(404, 'no such path');
  }

  #first(request: IncomingMessage, url: URL, body: Buffer): Answer {
    const path = url.pathname.slice('/_apis/artifactcache/'.length);
    const id = /^caches\/(\d+)$/.exec(path)?.[1];
    if (request.method === 'GET' && path === 'cache') {
      const keys = (url.searchParams.get('keys') ?? '').split(',');
      const found = this.store.find(keys, url.searchParams.get('version') ?? '', this.#readable());
      if (!found) return { status: 204 };
      return json({ cacheKey: found.key, scope: found.scope, archiveLocation: this.#sign(found) });
    }
    if (request.method === 'POST' && path === 'caches') {
      const { key, version } = JSON.parse(body.toString()) as { key: string; version: string };
      return json({ cacheId: this.store.reserve(key, version, this.#writable()).id });
    }
    if (request.method === 'PATCH' && id !== undefined) {
      this.store.putRange(Number(id), request.headers['content-range'] ?? '', body);
      return { status: 204 };
    }
    if (request.method === 'POST' && id !== undefined) {
      this.store.commit(Number(id), (JSON.parse(body.toString()) as { size: number }).size);
      return { status: 204 };
    }
    throw new Refusal(404, 'no such path');
  }

  #second(url: URL, body: Buffer): Answer {
    const message = JSON.parse(body.toString()) as Record<string, unknown>;
    const { key, version } = message as { key: string; version: string };
    switch (url.pathname.slice(TWIRP.length)) {
      case 'CreateCacheEntry':
        return json({
          ok: true,
          signed_upload_url: this.#sign(this.store.reserve(key, version, this.#writable())),
        });
      case 'FinalizeCacheEntryUpload': {
        const { id } = this.store.reserved(key, version, this.#writable());
        this.store.commit(id, message.size_bytes as number);
        return json({ ok: true, entry_id: `${id}` });
      }
      case 'GetCacheEntryDownloadURL': {
        const restore = message.restore_keys;
        if (!Array.isArray(restore) || restore[0] !== key) throw new Refusal(400, 'restore_keys without key');
        const found = this.store.find(restore as string[], version, this.#readable());
        if (!found) return json({ ok: false, signed_download_url: '', matched_key: '' });
        return json({ ok: true, signed_download_url: this.#sign(found), matched_key: found.key });
      }
      default:
        throw new Refusal(404, 'no such method');
    }
  }

  /** Where signed addresses lead: Azure's Blob service, as far as clients of the cache need it. */
  #storage(request: IncomingMessage, url: URL, body: Buffer): Answer {
    const signed = this.#signed.get(url.searchParams.get('sig') ?? '');
    const id = Number(url.pathname.slice('/signed/'.length));
    if (!signed || signed.key !== `${id}`) throw new Refusal(403, 'AuthenticationFailed');
    if (request.headers.authorization !== undefined)
      throw new Refusal(400, 'the token was sent to the storage');
    if (request.method === 'GET') {
      if (signed.uses-- <= 0) throw new Refusal(403, 'AuthenticationFailed');
      return ranged(this.store.read(id), request.headers.range);
    }
    if (request.method !== 'PUT') throw new Refusal(405, 'method');
    const comp = url.searchParams.get('comp');
    if (comp === null && request.headers['x-ms-blob-type'] !== 'BlockBlob')
      throw new Refusal(400, 'no x-ms-blob-type');
    if (comp === 'block') this.store.putBlock(id, url.searchParams.get('blockid') ?? '', body);
    else if (comp === 'blocklist') this.store.putBlockList(id, body.toString());
    else this.store.put(id, body);
    return { status: 201, headers: { 'x-ms-request-id': 'r1' } };
  }

  #list(url: URL): Answer {
    const query = url.searchParams;
    const keys = this.store.entries
      .filter(({ key, scope }) => key.startsWith(query.get('key') ?? '') && scope === query.get('ref'))
      .map(({ key }) => ({ key }));
    const [size, page] = [Number(query.get('per_page')), Number(query.get('page'))];
    return json({ total_count: keys.length, actions_caches: keys.slice((page - 1) * size, page * size) });
  }

  #sign({ id }: StoredEntry): string {
    const sig = randomBytes(12).toString('base64');
    this.#signed.set(sig, { key: `${id}`, uses: this.#signedUses });
    return `${this.url}signed/${id}?se=2030-01-01T00%3A00%3A00Z&sig=${encodeURIComponent(sig)}`;
  }

  #readable(): string[] {
    return this.scopes.filter(({ Permission }) => (Permission & 1) !== 0).map(({ Scope }) => Scope);
  }

  #writable(): string {
    const scope = this.scopes.findLast(({ Permission }) => (Permission & 2) !== 0)?.Scope;
    if (scope === undefined) throw new Refusal(403, 'the token writes nowhere');
    return scope;
  }
}

interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array | string;
}

/** A token of the cache service, good for an hour, with a signature of nobody. */
export function actionsToken(scopes: readonly TokenScope[], claims: Record<string, unknown> = {}): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const own = { nbf: now - 60, exp: now + 3600, ac: JSON.stringify(scopes), ...claims };
  return `${part({ alg: 'HS256', typ: 'JWT' })}.${part(own)}.c2lnbmF0dXJl`;
}

function json(value: unknown): Answer {
  return { headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) };
}

function ranged(data: Uint8Array, range: string | undefined): Answer {
  const from = /^bytes=(\d+)-$/.exec(range ?? '')?.[1];
  if (from === undefined) return { body: data };
  const start = Number(from);
  if (start >= data.length) throw new Refusal(416, 'InvalidRange');
  const headers = { 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` };
  return { status: 206, headers, body: data.subarray(start) };
}

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function misbehave(
  fault: Fault,
  request: IncomingMessage,
  response: ServerResponse,
  handle: () => Promise<Answer>,
): Promise<void> {
  if ('status' in fault) {
    request.resume();
    response.writeHead(fault.status, fault.headers ?? {}).end(fault.body);
  } else if ('cutAfter' in fault) {
    const { status = 200, headers = {}, body = '' } = await handle();
    const data = Buffer.from(body);
    response.writeHead(status, { ...headers, 'content-length': data.length });
    response.write(data.subarray(0, fault.cutAfter), () => response.destroy());
  } else if ('hangUp' in fault) request.destroy();
  else if ('silent' in fault) request.resume();
  else throw new Error('a fault that this server does not have');
}
