import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { ClientRequest, OutgoingHttpHeaders } from 'node:http';
import type { SecureContext } from 'node:tls';
import { BuildError, errno } from '../base/errors.ts';
import { abortable } from '../base/shared-task.ts';
import type { HostTls, ProxyConfig } from './config.ts';
import { DirectConnections } from './direct.ts';
import {
  IDLE_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  limitConnect,
  MAX_IDLE_CONNECTIONS,
  timeoutError,
} from './limits.ts';
import { speaksPlainHttp } from './probe.ts';
import { HttpResponse } from './response.ts';
import { loadSecureContext } from './tls.ts';

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
  /** The answer to this GET is expected to be large. */
  readonly large?: boolean;
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

class NodeResponse extends HttpResponse {
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
    super(message.statusCode ?? 0, message.statusMessage ?? '', method, url);
    this.#message = message;
    this.#outgoing = outgoing;
    this.#signal = signal;
  }

  header(name: string): string | undefined {
    const value = this.#message.headers[name.toLowerCase()];
    return Array.isArray(value) ? value.join(', ') : value;
  }

  headers(name: string): readonly string[] {
    return this.#message.headersDistinct[name.toLowerCase()] ?? [];
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
  readonly #https = new Map<SecureContext, HttpsAgent>();
  readonly #contexts = new Map<string, Promise<SecureContext>>();
  readonly #direct = new DirectConnections();
  readonly #hasProxy: boolean;
  /** By host, whether it speaks HTTP without TLS. */
  readonly #plain = new Map<string, Promise<boolean>>();
  readonly #userAgent: string;

  constructor(options: { readonly proxy?: ProxyConfig; readonly userAgent: string }) {
    const { httpProxy, httpsProxy, noProxy } = options.proxy ?? {};
    this.#proxyEnv = {
      ...(httpProxy ? { HTTP_PROXY: httpProxy } : {}),
      ...(httpsProxy ? { HTTPS_PROXY: httpsProxy } : {}),
      NO_PROXY: [noProxy, ...OF_THIS_MACHINE].filter(Boolean).join(','),
    };
    this.#hasProxy = Boolean(httpProxy || httpsProxy);
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
    const headers: Record<string, string> = {
      'user-agent': this.#userAgent,
      ...request.headers,
      ...(authorization === undefined ? {} : { authorization }),
      ...(request.body ? { 'content-length': String(request.body.size) } : {}),
      ...(!request.body && (request.method === 'POST' || request.method === 'PUT')
        ? { 'content-length': '0' }
        : {}),
    };
    const mayFallBack = request.tls?.plainFallback === true && request.url.protocol === 'https:';
    if (mayFallBack && (await abortable(this.#isPlain(request.url), request.signal)))
      return this.#once(request, headers, plainUrl(request.url));
    try {
      return await this.#once(request, headers, request.url);
    } catch (error) {
      if (!mayFallBack || !speaksNoTls(error, request.url)) throw error;
      const response = await this.#once(request, headers, plainUrl(request.url));
      this.#plain.set(request.url.host, Promise.resolve(true));
      return response;
    }
  }

  /** Known, or found out at the first request. */
  #isPlain(url: URL): Promise<boolean> {
    let plain = this.#plain.get(url.host);
    if (!plain) {
      plain = this.#hasProxy ? Promise.resolve(false) : speaksPlainHttp(url);
      this.#plain.set(url.host, plain);
    }
    return plain;
  }

  async #once(request: HttpRequest, headers: Record<string, string>, url: URL): Promise<HttpResponse> {
    const isDirect = request.large && !this.#hasProxy && request.method === 'GET' && url.username === '';
    if (isDirect) {
      const { signal } = request;
      const secureContext = url.protocol === 'https:' ? await this.#secureContext(request.tls) : undefined;
      const tls = secureContext && { secureContext, rejectUnauthorized: !(request.tls?.insecure ?? false) };
      return await this.#direct.get({ url, headers, tls, signal });
    }
    return await this.#exchange(request, headers, url);
  }

  /** One exchange; a kept connection that turns out to be closed is replaced once. */
  async #exchange(request: HttpRequest, headers: OutgoingHttpHeaders, url: URL): Promise<HttpResponse> {
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
        return new NodeResponse(message, outgoing, request.method, url, request.signal);
      } catch (error) {
        request.signal.throwIfAborted();
        const stale = outgoing.reusedSocket && ['ECONNRESET', 'EPIPE'].includes(errno(error) ?? '');
        if (!stale || retried || request.body) throw error;
      }
    }
  }

  /** Of `undefined` and of hosts without files of their own there is one. */
  #secureContext(tls: HostTls | undefined): Promise<SecureContext> {
    const { ca, keyPairs, tlsConfigDirs } = tls?.config ?? {};
    const key = JSON.stringify([tls?.insecure ?? false, ca, keyPairs, tlsConfigDirs]);
    let context = this.#contexts.get(key);
    if (!context) {
      context = loadSecureContext(tls?.config, tls?.insecure);
      context.catch(() => this.#contexts.delete(key)); // the files may be there the next time
      this.#contexts.set(key, context);
    }
    return context;
  }

  async #httpsAgent(tls: HostTls | undefined): Promise<HttpsAgent> {
    const secureContext = await this.#secureContext(tls);
    let agent = this.#https.get(secureContext);
    if (!agent) {
      agent = new HttpsAgent({
        ...this.#agentOptions(),
        secureContext,
        rejectUnauthorized: !(tls?.insecure ?? false),
        ALPNProtocols: ['http/1.1'],
      });
      this.#https.set(secureContext, agent);
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
    this.#direct.close();
    for (const agent of this.#https.values()) agent.destroy();
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
    if (socket.connecting) limitConnect(socket, 'encrypted' in socket, (error) => outgoing.destroy(error));
  });
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
