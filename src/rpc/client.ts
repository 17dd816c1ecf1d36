import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import type { Duplex } from 'node:stream';
import { BuildError, Code } from '../base/errors.ts';
import { Metadata, rawHeader } from './metadata.ts';
import { errorOfHeaders, errorOfHttp, errorOfReset } from './status.ts';
import { CallStream } from './stream.ts';
import { CONNECTION_WINDOW_BYTES, http2, sessionOptions } from './transport.ts';
import type { CallOptions, Client, MethodDefinition, ServiceDefinition } from './types.ts';

export interface ChannelOptions {
  /** HTTP/2 `:authority`; `localhost` when not given. */
  readonly authority?: string;
  readonly userAgent?: string;
}

/** One HTTP/2 connection that carries gRPC calls. */
export interface GrpcChannel extends Disposable {
  /** Typed client of a service; cheap, makes no connection of its own. */
  client<S extends ServiceDefinition>(service: S): Client<S>;
  /** Lets running calls finish, takes no new ones, then closes the connection. */
  close(): void;
  /** Ends everything at once; running calls fail with Unavailable, or with `reason`. */
  destroy(reason?: BuildError): void;
  /** Resolves when the connection is gone, with the reason if it did not end in order. */
  readonly closed: Promise<BuildError | undefined>;
  readonly isOpen: boolean;
  /** Resolves when the server has introduced itself, or the connection has ended. Calls need not wait for it. */
  readonly ready: Promise<void>;
}

/** Makes a channel of an established byte stream: a socket, a tunnel, a process's stdio. The stream belongs to it. */
export function connectGrpc(stream: Duplex, options: ChannelOptions = {}): GrpcChannel {
  const authority = options.authority ?? 'localhost';
  const session = http2().connect(`http://${authority}`, {
    ...sessionOptions(),
    createConnection: () => stream,
  });
  return new Channel(session, stream, authority, options.userAgent ?? 'grpc-buildkit-ts');
}

class Channel implements GrpcChannel {
  readonly #session: ClientHttp2Session;
  readonly #transport: Duplex;
  readonly #authority: string;
  readonly #userAgent: string;
  readonly closed: Promise<BuildError | undefined>;
  readonly ready: Promise<void>;
  #failure: BuildError | undefined;

  constructor(session: ClientHttp2Session, transport: Duplex, authority: string, userAgent: string) {
    this.#session = session;
    this.#transport = transport;
    this.#authority = authority;
    this.#userAgent = userAgent;
    const { promise, resolve } = Promise.withResolvers<BuildError | undefined>();
    this.closed = promise;
    session.setMaxListeners(0);
    session.on('error', (error) => this.#lost(error));
    session.on('frameError', () => {});
    session.on('goaway', (code) => {
      if (code !== 0) this.#lost(new Error(`connection refused further work (code ${code})`));
    });
    const introduced = Promise.withResolvers<void>();
    this.ready = introduced.promise;
    session.once('remoteSettings', () => introduced.resolve());
    session.on('close', () => {
      introduced.resolve();
      resolve(this.#failure);
    });
    if (session.connecting)
      session.once('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    else session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  }

  get isOpen(): boolean {
    return !this.#session.closed && !this.#session.destroyed;
  }

  #lost(error: Error): void {
    this.#failure ??= new BuildError(`error reading from server: ${error.message}`, {
      code: Code.unavailable,
      cause: error,
    });
  }

  /** Why calls fail that nobody reset: the connection's own error, or its end. */
  #gone(): BuildError | undefined {
    if (this.#failure) return this.#failure;
    if (!this.#transport.destroyed && !this.#session.destroyed) return undefined;
    return new BuildError('error reading from server: EOF', { code: Code.unavailable });
  }

  client<S extends ServiceDefinition>(service: S): Client<S> {
    const client: Record<string, unknown> = {};
    for (const [key, method] of Object.entries(service.methods))
      client[key] = this.#method(`/${service.fullName}/${method.name}`, method);
    return client as Client<S>;
  }

  #method(path: string, method: MethodDefinition): unknown {
    const open = (options?: CallOptions) => this.#open(path, method, options);
    if (method.requestStream && method.responseStream) return open;
    if (method.requestStream)
      return async (requests: AsyncIterable<unknown>, options?: CallOptions) => {
        const call = open(options);
        feed(call, requests);
        return await single(call);
      };
    if (method.responseStream)
      return (request: unknown, options?: CallOptions) => responses(() => ask(open(options), request));
    return async (request: unknown, options?: CallOptions) => await single(ask(open(options), request));
  }

  #open(path: string, method: MethodDefinition, options: CallOptions = {}): ClientCall<unknown, unknown> {
    options.signal?.throwIfAborted();
    if (!this.isOpen)
      throw this.#failure ?? new BuildError('the connection is closing', { code: Code.unavailable });
    const headers: Record<string, string | string[]> = {
      ':method': 'POST',
      ':scheme': 'http',
      ':path': path,
      ':authority': this.#authority,
      'content-type': 'application/grpc',
      'user-agent': this.#userAgent,
      te: 'trailers',
    };
    if (options.timeoutMs !== undefined) headers['grpc-timeout'] = timeoutHeader(options.timeoutMs);
    options.metadata?.writeTo(headers);
    const stream = this.#session.request(headers, { endStream: false });
    return new ClientCall(stream, method, options, () => this.#gone());
  }

  close(): void {
    if (this.isOpen) this.#session.close();
  }

  destroy(reason?: BuildError): void {
    this.#failure ??= reason;
    this.#session.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** A call as its client sees it: the status arrives with the trailers, after the last message. */
class ClientCall<In, Out> extends CallStream<In, Out> {
  readonly #done = Promise.withResolvers<BuildError | undefined>();
  readonly #connectionFailure: () => BuildError | undefined;
  readonly #cleanup: (() => void)[] = [];
  #status: string | undefined;

  constructor(
    stream: ClientHttp2Stream,
    method: MethodDefinition,
    options: CallOptions,
    connectionFailure: () => BuildError | undefined,
  ) {
    super(stream, method.responseType as never, method.requestType as never);
    this.#connectionFailure = connectionFailure;
    stream.on('response', (headers, _flags, raw?: string[]) => this.#onResponse(headers, raw ?? [], options));
    stream.on('trailers', (_headers, _flags, raw?: string[]) => this.#onTrailers(raw ?? []));
    stream.on('error', (error) => this.#settle(this.#lost(error)));
    stream.on('frameError', () => {});
    stream.on('close', () => {
      this.#settle(
        connectionFailure() ?? (stream.rstCode === 0 ? this.#lost() : errorOfReset(stream.rstCode)),
      );
    });
    stream.on('end', () => {
      // The server may finish before we have: nothing more of ours is wanted then.
      setImmediate(() => {
        if (this.#status !== undefined && !stream.destroyed && !stream.writableEnded) stream.close();
      });
    });
    this.#watch(options);
  }

  #watch(options: CallOptions): void {
    const { signal, timeoutMs } = options;
    if (signal) {
      const onAbort = (): void => this.cancel(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      this.#cleanup.push(() => signal.removeEventListener('abort', onAbort));
    }
    if (timeoutMs !== undefined) {
      const timer = setTimeout(
        () => this.cancel(new BuildError('context deadline exceeded', { code: Code.deadlineExceeded })),
        timeoutMs,
      );
      this.#cleanup.push(() => clearTimeout(timer));
    }
  }

  #lost(error?: Error): BuildError {
    const text = error ? error.message : 'EOF';
    return (
      this.#connectionFailure() ??
      new BuildError(`error reading from server: ${text}`, { code: Code.unavailable, cause: error })
    );
  }

  #onResponse(headers: IncomingHttpHeaders, raw: readonly string[], options: CallOptions): void {
    const status = Number(headers[':status']);
    if (status !== 200 && headers['grpc-status'] === undefined) {
      this.#settle(errorOfHttp(status));
      return;
    }
    options.onHeaders?.(Metadata.fromRaw(raw));
    if (headers['grpc-status'] !== undefined) this.#onTrailers(raw);
  }

  #onTrailers(raw: readonly string[]): void {
    const code = rawHeader(raw, 'grpc-status') ?? '2';
    this.#status = code;
    const error = errorOfHeaders(
      code,
      rawHeader(raw, 'grpc-message'),
      rawHeader(raw, 'grpc-status-details-bin'),
    );
    this.#settle(error, true);
  }

  /** `inOrder`: messages that arrived before a status can still be read. */
  #settle(error: BuildError | undefined, inOrder = false): void {
    for (const undo of this.#cleanup.splice(0)) undo();
    this.#done.resolve(error);
    if (error && !inOrder && this.#status === undefined) this.fail(error);
  }

  override fail(error: BuildError): void {
    for (const undo of this.#cleanup.splice(0)) undo();
    this.#done.resolve(error);
    super.fail(error);
  }

  protected override async atEnd(): Promise<undefined> {
    const error = await this.#done.promise;
    if (error) {
      super.fail(error);
      throw error;
    }
    return undefined;
  }
}

function ask(call: ClientCall<unknown, unknown>, request: unknown): ClientCall<unknown, unknown> {
  call.send(request).catch((error: unknown) => call.cancel(error));
  call.end();
  return call;
}

function feed(call: ClientCall<unknown, unknown>, requests: AsyncIterable<unknown>): void {
  const run = async (): Promise<void> => {
    for await (const request of requests) await call.send(request);
    call.end();
  };
  run().catch((error: unknown) => call.cancel(error));
}

async function single(call: ClientCall<unknown, unknown>): Promise<unknown> {
  const message = await call.receive();
  if (message === undefined)
    throw new BuildError('cardinality violation: no response message', { code: Code.internal });
  if ((await call.receive()) !== undefined) {
    call.cancel();
    throw new BuildError('cardinality violation: more than one response message', { code: Code.internal });
  }
  return message;
}

async function* responses(start: () => ClientCall<unknown, unknown>): AsyncGenerator<unknown> {
  const call = start();
  let done = false;
  try {
    for (;;) {
      const message = await call.receive();
      if (message === undefined) break;
      yield message;
    }
    done = true;
  } finally {
    if (!done) call.cancel();
  }
}

/** At most eight digits and a unit (gRPC over HTTP/2, Timeout). */
function timeoutHeader(ms: number): string {
  const whole = Math.max(1, Math.ceil(ms));
  return whole < 1e8 ? `${whole}m` : `${Math.ceil(whole / 1000)}S`;
}
