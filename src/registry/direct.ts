import { BuildError } from '../base/errors.ts';
import { giveBackChunk, CHUNK_BYTES } from '../base/chunks.ts';
import {
  IDLE_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  limitConnect,
  MAX_IDLE_CONNECTIONS,
  timeoutError,
} from './limits.ts';
import { DirectConnection, type DirectTls } from './direct-connection.ts';
import { HttpResponse } from './response.ts';
import { isKeptAlive, type ResponseHead } from './response-head.ts';

export interface DirectRequest {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: DirectTls | undefined;
  readonly signal: AbortSignal;
}

const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Connections for large answers to GET. */
export class DirectConnections {
  readonly #idle = new Map<string, DirectConnection[]>();
  readonly #tlsKeys = new WeakMap<object, number>();
  #lastKey = 0;

  async get(request: DirectRequest): Promise<HttpResponse> {
    const text = textOf(request);
    const { signal, url } = request;
    const key = `${url.origin} ${this.#tlsKey(request.tls)}`;
    for (;;) {
      signal.throwIfAborted();
      const known = this.#take(key);
      const connection = known ?? this.#connect(request, key);
      const stop = (): void => connection.destroy(signal.reason);
      signal.addEventListener('abort', stop, { once: true });
      const end = (): void => signal.removeEventListener('abort', stop);
      try {
        const head = await connection.ask(text);
        const done = (): void => {
          end();
          if (isKeptAlive(head) && !connection.broken) this.#keep(key, connection);
          else connection.destroy();
        };
        return new DirectResponse(head, connection, url, done, signal);
      } catch (error) {
        end();
        connection.destroy();
        signal.throwIfAborted();
        if (!known) throw error;
        // It was kept for too long: another one.
      }
    }
  }

  /** Closes idle connections. */
  close(): void {
    for (const connections of this.#idle.values()) for (const one of connections) one.destroy();
    this.#idle.clear();
  }

  #tlsKey(tls: DirectTls | undefined): number {
    if (!tls) return 0;
    let key = this.#tlsKeys.get(tls.secureContext);
    if (key === undefined) this.#tlsKeys.set(tls.secureContext, (key = ++this.#lastKey));
    return key;
  }

  #take(key: string): DirectConnection | undefined {
    for (let idle = this.#idle.get(key); idle && idle.length > 0; ) {
      const connection = idle.pop()!;
      connection.socket.ref();
      connection.socket.setTimeout(IDLE_TIMEOUT_MS);
      if (!connection.broken) return connection;
    }
    return undefined;
  }

  #connect(request: DirectRequest, key: string): DirectConnection {
    const connection = newConnection(request);
    connection.socket.once('close', () => {
      const idle = this.#idle.get(key) ?? [];
      const at = idle.indexOf(connection);
      if (at >= 0) idle.splice(at, 1);
      if (idle.length === 0) this.#idle.delete(key);
    });
    return connection;
  }

  #keep(key: string, connection: DirectConnection): void {
    const idle = this.#idle.get(key) ?? [];
    this.#idle.set(key, idle);
    if (idle.length >= MAX_IDLE_CONNECTIONS) {
      connection.destroy();
      return;
    }
    connection.socket.unref();
    connection.socket.setTimeout(KEEP_ALIVE_MS);
    idle.push(connection);
  }
}

function textOf({ url, headers }: DirectRequest): string {
  const lines = [`GET ${url.pathname}${url.search} HTTP/1.1`];
  for (const [name, value] of Object.entries({ host: url.host, ...headers, connection: 'keep-alive' })) {
    if (!HEADER_VALUE.test(value))
      throw new BuildError(`header ${name} of a request has characters that it may not have`);
    lines.push(`${name}: ${value}`);
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function newConnection({ url, tls }: DirectRequest): DirectConnection {
  const connection = new DirectConnection(url, tls);
  const { socket } = connection;
  limitConnect(socket, tls !== undefined, (error) => connection.destroy(error));
  socket.setTimeout(IDLE_TIMEOUT_MS);
  socket.on('timeout', () => connection.destroy(timeoutError('connection idle for too long')));
  return connection;
}

class DirectResponse extends HttpResponse {
  readonly #head: ResponseHead;
  readonly #connection: DirectConnection;
  readonly #done: () => void;
  readonly #signal: AbortSignal;
  #over = false;

  constructor(
    head: ResponseHead,
    connection: DirectConnection,
    url: URL,
    done: () => void,
    signal: AbortSignal,
  ) {
    super(head.status, head.statusText, 'GET', url);
    this.#head = head;
    this.#connection = connection;
    this.#done = done;
    this.#signal = signal;
  }

  header(name: string): string | undefined {
    return this.#head.headers.get(name.toLowerCase())?.join(', ');
  }

  headers(name: string): readonly string[] {
    return this.#head.headers.get(name.toLowerCase()) ?? [];
  }

  async *body(): AsyncGenerator<Uint8Array, void> {
    let whole = false;
    try {
      for (;;) {
        const chunk = await this.#connection.next();
        if (!chunk) break;
        yield chunk;
      }
      whole = true;
    } catch (error) {
      this.#signal.throwIfAborted();
      throw error;
    } finally {
      this.#end(whole);
    }
  }

  async discard(): Promise<void> {
    if (this.#over) return;
    if (this.contentLength > CHUNK_BYTES) return this.#end(false);
    let left = CHUNK_BYTES;
    try {
      for await (const chunk of this.body()) {
        left -= chunk.length;
        giveBackChunk(chunk);
        if (left < 0) break;
      }
    } catch {
      // Nobody wants this body any more.
    }
  }

  #end(whole: boolean): void {
    if (this.#over) return;
    this.#over = true;
    if (!whole) this.#connection.destroy();
    this.#done();
  }
}
