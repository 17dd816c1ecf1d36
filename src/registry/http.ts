import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { ClientRequest, OutgoingHttpHeaders } from 'node:http';
import { BuildError, errno } from '../base/errors.ts';
import type { HostTls, ProxyConfig } from './config.ts';
import { loadSecureContext } from './tls.ts';

const CONNECT_TIMEOUT_MS = 30_000;
/** A connection on which nothing moves for this long is given up. */
const IDLE_TIMEOUT_MS = 180_000;
const KEEP_ALIVE_MS = 120_000;
const MAX_IDLE_CONNECTIONS = 4;
const MAX_REDIRECTS = 10;
/** Never asked through a proxy: the machine itself, and what clouds tell it of itself. */
const OF_THIS_MACHINE = [
  ...['localhost', '127.0.0.1', '::1'],
  ...['169.254.169.254', '169.254.170.2', '169.254.170.23', 'fd00:ec2::254', 'fd00:ec2::23'],
];
/** How much of an unwanted answer is read so that its connection can be used again. */
const MAX_DRAIN_BYTES = 256 * 1024;

export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly tls?: HostTls;
  readonly body?: HttpBody;
  /** Gives the Authorization header for a URL; asked again for the target of a redirect. */
  readonly authorize?: (url: URL) => Promise<string | undefined>;
  /** An answer that leads elsewhere is given as it is: the request is signed for where it goes. */
  readonly keepRedirects?: boolean;
  readonly signal: AbortSignal;
}

/** `size` in bytes is exact. `open` is called once for each try. */
export interface HttpBody {
  readonly size: number;
  open(): AsyncIterable<Uint8Array>;
}

/** A body that is in memory. */
export function bytesBody(data: Uint8Array): HttpBody {
  return {
    size: data.length,
    open: async function* () {
      yield data;
    },
  };
}

/** An answer whose body is not read yet. Read it to the end or call `discard`. */
export class HttpResponse {
  readonly status: number;
  readonly statusText: string;
  readonly method: string;
  /** After redirects. */
  readonly url: URL;
  readonly #message: IncomingMessage;
  readonly #outgoing: ClientRequest;
  readonly #signal: AbortSignal;

  constructor(
    message: IncomingMessage,
    outgoing: ClientRequest,
    method: string,
    url: URL,
    signal: AbortSignal,
  ) {
    this.status = message.statusCode ?? 0;
    this.statusText = message.statusMessage ?? '';
    this.method = method;
    this.url = url;
    this.#message = message;
    this.#outgoing = outgoing;
    this.#signal = signal;
  }

  header(name: string): string | undefined {
    const value = this.#message.headers[name.toLowerCase()];
    return Array.isArray(value) ? value.join(', ') : value;
  }

  /** Every header line of this name. */
  headers(name: string): readonly string[] {
    return this.#message.headersDistinct[name.toLowerCase()] ?? [];
  }

  /** -1 when the server does not say. */
  get contentLength(): number {
    const text = this.header('content-length');
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : -1;
  }

  async *body(): AsyncGenerator<Uint8Array, void> {
    try {
      for await (const chunk of this.#message) yield chunk as Uint8Array;
    } catch (error) {
      this.#signal.throwIfAborted();
      throw error;
    } finally {
      this.#message.destroy();
      // Answered before it was all sent: the rest is not wanted.
      if (!this.#outgoing.writableFinished) this.#outgoing.destroy();
    }
  }

  /** At most `limit` bytes of the body. */
  async bytes(limit: number): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.body()) {
      chunks.push(chunk.subarray(0, limit - size));
      size += chunk.length;
      if (size >= limit) break;
    }
    return Buffer.concat(chunks);
  }

  /** Reads a short rest, so that the connection stays usable, and drops a long one or an unfinished upload. */
  async discard(): Promise<void> {
    const message = this.#message;
    message.on('error', () => {}); // nobody wants this body any more
    const isLong = this.method !== 'HEAD' && this.contentLength > MAX_DRAIN_BYTES;
    if (!this.#outgoing.writableFinished) this.#outgoing.destroy();
    else if (isLong) message.destroy();
    else if (!message.readableEnded && !message.destroyed) {
      const closed = new Promise<void>((resolve) => message.once('close', resolve));
      message.resume();
      await closed;
    }
  }
}

/** Node's connections behind one small interface: keep-alive, proxies, redirects, TLS per registry. */
export class HttpClient {
  readonly #proxyEnv: Record<string, string>;
  readonly #http: HttpAgent;
  readonly #https = new Map<string, Promise<HttpsAgent>>();
  readonly #plainHosts = new Set<string>();
  readonly #userAgent: string;

  constructor(options: { readonly proxy?: ProxyConfig; readonly userAgent: string }) {
    const { httpProxy, httpsProxy, noProxy } = options.proxy ?? {};
    this.#proxyEnv = {
      ...(httpProxy ? { HTTP_PROXY: httpProxy } : {}),
      ...(httpsProxy ? { HTTPS_PROXY: httpsProxy } : {}),
      NO_PROXY: [noProxy, ...OF_THIS_MACHINE].filter(Boolean).join(','),
    };
    this.#userAgent = options.userAgent;
    this.#http = new HttpAgent({ ...this.#agentOptions() });
  }

  /** Follows redirects of requests without body. Aborting ends the request and the reading of its answer. */
  async send(request: HttpRequest): Promise<HttpResponse> {
    let { url, method } = request;
    for (let redirects = 0; ; redirects++) {
      request.signal.throwIfAborted();
      const response = await this.#hop({ ...request, url, method });
      const location = response.header('location');
      const leads = [301, 302, 303, 307, 308].includes(response.status) && location !== undefined;
      if (!leads || request.body || request.keepRedirects) return response;
      await response.discard();
      if (redirects >= MAX_REDIRECTS) throw new BuildError(`stopped after ${MAX_REDIRECTS} redirects`);
      url = new URL(location, response.url);
      if (url.protocol !== 'http:' && url.protocol !== 'https:')
        throw new BuildError(`redirect to unsupported protocol ${JSON.stringify(url.protocol)}`);
      if (response.status === 303 && method !== 'HEAD') method = 'GET';
    }
  }

  async #hop(request: HttpRequest): Promise<HttpResponse> {
    const authorization = await request.authorize?.(request.url);
    const headers: OutgoingHttpHeaders = {
      'user-agent': this.#userAgent,
      ...request.headers,
      ...(authorization === undefined ? {} : { authorization }),
      ...(request.body ? { 'content-length': request.body.size } : {}),
      ...(!request.body && (request.method === 'POST' || request.method === 'PUT')
        ? { 'content-length': 0 }
        : {}),
    };
    const { host } = request.url;
    const mayFallBack = request.tls?.plainFallback === true && request.url.protocol === 'https:';
    if (mayFallBack && this.#plainHosts.has(host)) return this.#once(request, headers, plainUrl(request.url));
    try {
      return await this.#once(request, headers, request.url);
    } catch (error) {
      if (!mayFallBack || !speaksNoTls(error, request.url)) throw error;
      const response = await this.#once(request, headers, plainUrl(request.url));
      this.#plainHosts.add(host);
      return response;
    }
  }

  /** One exchange; a kept connection that turns out to be closed is replaced once. */
  async #once(request: HttpRequest, headers: OutgoingHttpHeaders, url: URL): Promise<HttpResponse> {
    const options = {
      method: request.method,
      headers,
      agent: url.protocol === 'https:' ? await this.#httpsAgent(request.tls) : this.#http,
      signal: request.signal,
    };
    const start = (): ClientRequest =>
      url.protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options);
    for (let retried = false; ; retried = true) {
      const outgoing = start();
      try {
        const message = await exchange(outgoing, request.body);
        return new HttpResponse(message, outgoing, request.method, url, request.signal);
      } catch (error) {
        request.signal.throwIfAborted();
        const stale = outgoing.reusedSocket && ['ECONNRESET', 'EPIPE'].includes(errno(error) ?? '');
        if (!stale || retried || request.body) throw error;
      }
    }
  }

  /** Of `undefined` and of hosts without files of their own there is one. */
  #httpsAgent(tls: HostTls | undefined): Promise<HttpsAgent> {
    const { ca, keyPairs, tlsConfigDirs } = tls?.config ?? {};
    const key = JSON.stringify([tls?.insecure ?? false, ca, keyPairs, tlsConfigDirs]);
    let agent = this.#https.get(key);
    if (!agent) {
      agent = loadSecureContext(tls?.config, tls?.insecure).then(
        (secureContext) =>
          new HttpsAgent({
            ...this.#agentOptions(),
            secureContext,
            rejectUnauthorized: !(tls?.insecure ?? false),
            ALPNProtocols: ['http/1.1'],
          }),
      );
      agent.catch(() => this.#https.delete(key)); // the files may be there the next time
      this.#https.set(key, agent);
    }
    return agent;
  }

  #agentOptions() {
    return {
      keepAlive: true,
      maxFreeSockets: MAX_IDLE_CONNECTIONS,
      timeout: KEEP_ALIVE_MS,
      proxyEnv: this.#proxyEnv,
    };
  }

  /** Closes idle connections; running requests must be over. */
  async close(): Promise<void> {
    this.#http.destroy();
    for (const agent of this.#https.values()) {
      (await agent.catch(() => undefined))?.destroy(); // one that could not be set up has nothing to close
    }
    this.#https.clear();
  }
}

function exchange(outgoing: ClientRequest, body: HttpBody | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    guardConnect(outgoing);
    outgoing.setTimeout(IDLE_TIMEOUT_MS, () =>
      outgoing.destroy(timeoutError('connection idle for too long')),
    );
    // Stays attached: an error after the answer (upload refused midway) must not be unhandled.
    outgoing.on('error', reject);
    outgoing.once('response', resolve);
    if (!body) outgoing.end();
    else send(outgoing, body).catch((error: Error) => outgoing.destroy(error));
  });
}

/** Writes the body at the server's pace; stops quietly when the server has answered already. */
async function send(outgoing: ClientRequest, body: HttpBody): Promise<void> {
  let sent = 0;
  for await (const chunk of body.open()) {
    if (outgoing.destroyed || outgoing.closed) return;
    sent += chunk.length;
    if (sent > body.size) throw new BuildError(`body is longer than ${body.size} bytes`);
    if (!outgoing.write(chunk)) await drained(outgoing);
  }
  if (sent < body.size && !outgoing.destroyed)
    throw new BuildError(`body ended after ${sent} of ${body.size} bytes`);
  outgoing.end();
}

function drained(outgoing: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      outgoing.off('drain', done);
      outgoing.off('close', done);
      resolve();
    };
    outgoing.once('drain', done);
    outgoing.once('close', done);
    if (outgoing.destroyed) done();
  });
}

function guardConnect(outgoing: ClientRequest): void {
  outgoing.once('socket', (socket) => {
    if (!socket.connecting) return;
    const secure = 'encrypted' in socket;
    const timer = setTimeout(
      () => outgoing.destroy(timeoutError('connect timeout')),
      CONNECT_TIMEOUT_MS,
    ).unref();
    const stop = (): void => clearTimeout(timer);
    socket.once(secure ? 'secureConnect' : 'connect', stop);
    socket.once('close', stop);
  });
}

function timeoutError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ETIMEDOUT' });
}

function plainUrl(url: URL): URL {
  const plain = new URL(url);
  plain.protocol = 'http:';
  return plain;
}

function speaksNoTls(error: unknown, url: URL): boolean {
  const code = errno(error) ?? '';
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') return true;
  return (code === 'ECONNREFUSED' || code === 'ETIMEDOUT') && url.port === '';
}
