import type { Duplex } from 'node:stream';
import { abortError, BuildError, Code } from '../base/errors.ts';
import { Http2Connection } from './http2/connection.ts';
import { ErrorCode } from './http2/frames.ts';
import type { Http2Stream } from './http2/stream.ts';
import { Metadata, rawHeader } from './metadata.ts';
import { errorOfHeaders, errorOfHttp, errorOfReset } from './status.ts';
import { CallStream } from './stream.ts';
import { CONNECTION_OPTIONS } from './transport.ts';
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
}

/** Makes a channel of an established byte stream: a socket, a tunnel, a process's stdio. The stream belongs to it. */
export function connectGrpc(stream: Duplex, options: ChannelOptions = {}): GrpcChannel {
  return new Channel(stream, options.authority ?? 'localhost', options.userAgent ?? 'grpc-buildkit-ts');
}

class Channel implements GrpcChannel {
  readonly #connection: Http2Connection;
  readonly #authority: string;
  readonly #userAgent: string;
  readonly closed: Promise<BuildError | undefined>;
  #failure: BuildError | undefined;

  constructor(transport: Duplex, authority: string, userAgent: string) {
    this.#connection = new Http2Connection(transport, CONNECTION_OPTIONS);
    this.#authority = authority;
    this.#userAgent = userAgent;
    this.closed = this.#connection.closed.then((error) => {
      if (error) this.#failure ??= lost(error);
      return this.#failure;
    });
  }

  get isOpen(): boolean {
    return this.#connection.isOpen;
  }

  /** Why calls fail that nobody reset. */
  #gone(): BuildError {
    const { failure } = this.#connection;
    return this.#failure ?? lost(failure);
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
    if (options.signal?.aborted) throw abortError(options.signal);
    if (!this.isOpen)
      throw this.#failure ?? new BuildError('the connection is closing', { code: Code.unavailable });
    const headers = [':method', 'POST', ':scheme', 'http', ':path', path, ':authority', this.#authority];
    headers.push('content-type', 'application/grpc', 'user-agent', this.#userAgent, 'te', 'trailers');
    if (options.timeoutMs !== undefined) headers.push('grpc-timeout', timeoutHeader(options.timeoutMs));
    options.metadata?.writeTo(headers);
    return new ClientCall(this.#connection.open(headers), method, options, () => this.#gone());
  }

  close(): void {
    this.#connection.close();
  }

  destroy(reason?: BuildError): void {
    this.#failure ??= reason;
    this.#connection.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** A call as its client sees it: the status arrives with the trailers, after the last message. */
class ClientCall<In, Out> extends CallStream<In, Out> {
  readonly #done = Promise.withResolvers<BuildError | undefined>();
  readonly #stream: Http2Stream;
  readonly #connectionFailure: () => BuildError;
  readonly #cleanup: (() => void)[] = [];
  readonly #onHeaders: CallOptions['onHeaders'];
  #answered = false;
  #status: string | undefined;

  constructor(
    stream: Http2Stream,
    method: MethodDefinition,
    options: CallOptions,
    connectionFailure: () => BuildError,
  ) {
    super(stream, method.responseType as never, method.requestType as never);
    this.#stream = stream;
    this.#connectionFailure = connectionFailure;
    this.#onHeaders = options.onHeaders;
    stream.events = {
      headers: (list) => (this.#answered ? this.#onTrailers(list) : this.#onResponse(list)),
      readable: () => this.wake(),
      closed: (code) => {
        this.#settle(code ? errorOfReset(code) : this.#connectionFailure());
        this.wake();
      },
    };
    this.#watch(options);
  }

  #watch(options: CallOptions): void {
    const { signal, timeoutMs } = options;
    if (signal) {
      const onAbort = (): void => this.cancel(abortError(signal));
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

  #onResponse(list: readonly string[]): void {
    const status = Number(rawHeader(list, ':status'));
    if (status >= 100 && status < 200) return; // a word in between
    this.#answered = true;
    const code = rawHeader(list, 'grpc-status');
    if (status !== 200 && code === undefined) {
      this.#settle(errorOfHttp(status));
      this.#stream.reset(ErrorCode.cancel);
      return;
    }
    this.#onHeaders?.(Metadata.fromRaw(list));
    if (code !== undefined) this.#onTrailers(list);
  }

  #onTrailers(list: readonly string[]): void {
    const code = rawHeader(list, 'grpc-status') ?? '2';
    this.#status = code;
    const error = errorOfHeaders(
      code,
      rawHeader(list, 'grpc-message'),
      rawHeader(list, 'grpc-status-details-bin'),
    );
    this.#settle(error, true);
    // The server may finish before we have: nothing more of ours is wanted then.
    process.nextTick(() => {
      if (!this.#stream.sentEnd) this.#stream.reset(ErrorCode.noError);
    });
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

function lost(error: Error | undefined): BuildError {
  return new BuildError(`error reading from server: ${error?.message ?? 'EOF'}`, {
    code: Code.unavailable,
    cause: error,
  });
}

/** At most eight digits and a unit (gRPC over HTTP/2, Timeout). */
function timeoutHeader(ms: number): string {
  const whole = Math.max(1, Math.ceil(ms));
  return whole < 1e8 ? `${whole}m` : `${Math.ceil(whole / 1000)}S`;
}
