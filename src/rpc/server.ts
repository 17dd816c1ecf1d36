import type { Duplex } from 'node:stream';
import { BuildError, Code, canceled } from '../base/errors.ts';
import { Http2Connection } from './http2/connection.ts';
import { ErrorCode } from './http2/frames.ts';
import type { Http2Stream } from './http2/stream.ts';
import { Metadata, rawHeader } from './metadata.ts';
import { statusHeaders, statusOf } from './status.ts';
import { CallStream } from './stream.ts';
import { CONNECTION_OPTIONS } from './transport.ts';
import type { MethodDefinition, Peer, ServerCall, ServiceDefinition, ServiceHandlers } from './types.ts';

/** A service with its handlers, made by `service()`. */
export interface RegisteredService {
  readonly definition: ServiceDefinition;
  readonly handlers: Readonly<Record<string, unknown>>;
  /** What callers are told of an error that ended their call. */
  readonly tell?: ((error: BuildError) => BuildError) | undefined;
}

/** Pairs a generated definition with its handlers, type-checked. */
export function service<S extends ServiceDefinition>(
  definition: S,
  handlers: ServiceHandlers<S>,
  tell?: RegisteredService['tell'],
): RegisteredService {
  return { definition, handlers: handlers as Readonly<Record<string, unknown>>, tell };
}

export interface GrpcServerOptions {
  readonly services: readonly RegisteredService[];
  /** Told of every call that ended in an error, for the log. */
  readonly onCallError?: (path: string, error: BuildError, peer: Peer) => void;
}

export interface GrpcServer {
  /** Speaks gRPC on an established byte stream, which then belongs to the connection. */
  serve(stream: Duplex, peer?: Peer): ServerConnection;
  /** Names of all services, in order of registration. */
  readonly serviceNames: readonly string[];
  /** No new calls; waits up to `graceMs` for running ones, then cuts all connections. */
  close(options?: { readonly graceMs?: number }): Promise<void>;
}

export interface ServerConnection {
  readonly closed: Promise<void>;
  destroy(): void;
}

interface Route {
  readonly path: string;
  readonly method: MethodDefinition;
  readonly handler: AnyHandler | undefined;
  readonly tell: RegisteredService['tell'];
}
type AnyHandler = (input: unknown, call: ServerCall) => unknown;

const LOCAL_PEER: Peer = { kind: 'stream', address: '' };
const DEFAULT_GRACE_MS = 5_000;

export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  return new Server(options);
}

class Server implements GrpcServer {
  readonly #routes = new Map<string, Route>();
  readonly #services = new Map<string, ServiceDefinition>();
  readonly #connections = new Set<Http2Connection>();
  readonly #onCallError: GrpcServerOptions['onCallError'];
  #closing = false;

  constructor(options: GrpcServerOptions) {
    this.#onCallError = options.onCallError;
    for (const { definition, handlers, tell } of options.services) {
      this.#services.set(definition.fullName, definition);
      for (const [key, method] of Object.entries(definition.methods)) {
        const path = `/${definition.fullName}/${method.name}`;
        this.#routes.set(path, { path, method, handler: handlers[key] as AnyHandler | undefined, tell });
      }
    }
  }

  get serviceNames(): readonly string[] {
    return [...this.#services.keys()];
  }

  serve(stream: Duplex, peer: Peer = LOCAL_PEER): ServerConnection {
    const connection = new Http2Connection(stream, {
      ...CONNECTION_OPTIONS,
      onStream: (call, headers) => this.#dispatch(call, headers, peer),
    });
    this.#connections.add(connection);
    const closed = connection.closed.then(() => void this.#connections.delete(connection));
    return { closed, destroy: () => connection.destroy() };
  }

  async close({ graceMs = DEFAULT_GRACE_MS }: { readonly graceMs?: number } = {}): Promise<void> {
    this.#closing = true;
    const open = [...this.#connections];
    for (const connection of open) connection.close();
    const timer = setTimeout(() => {
      for (const connection of open) connection.destroy();
    }, graceMs);
    await Promise.all(open.map((connection) => connection.closed));
    clearTimeout(timer);
  }

  #dispatch(stream: Http2Stream, raw: readonly string[], peer: Peer): void {
    const path = rawHeader(raw, ':path') ?? '';
    const refused =
      rawHeader(raw, ':method') !== 'POST'
        ? 405
        : rawHeader(raw, 'content-type')?.startsWith('application/grpc')
          ? undefined
          : 415;
    if (refused !== undefined) {
      stream.headers([':status', String(refused)], { end: true });
      stream.discard();
      return;
    }
    const call = new Call(stream, path, raw, peer, this.#routes.get(path)?.method);
    const run = async (): Promise<void> => {
      if (this.#closing) throw new BuildError('the server is shutting down', { code: Code.unavailable });
      const route = this.#routes.get(path);
      if (!route?.handler) throw this.#unknown(path, route);
      await invoke(route.method, route.handler, call);
    };
    run().then(
      () => call.finish(undefined),
      (error: unknown) => {
        const own = BuildError.from(error);
        this.#onCallError?.(path, own, peer);
        const tell = this.#routes.get(path)?.tell;
        call.finish(tell ? tell(own) : own);
      },
    );
  }

  #unknown(path: string, route: Route | undefined): BuildError {
    const [, name = '', method = ''] = path.split('/');
    const text = route
      ? `method ${route.method.name} not implemented`
      : this.#services.has(name)
        ? `unknown method ${method} for service ${name}`
        : `unknown service ${name}`;
    return new BuildError(text, { code: Code.unimplemented });
  }
}

async function invoke(method: MethodDefinition, handler: AnyHandler, call: Call): Promise<void> {
  if (method.requestStream && method.responseStream) {
    await handler(call, call);
    return;
  }
  const input = method.requestStream ? call : await onlyRequest(call);
  const answer = handler(input, call);
  if (method.responseStream) {
    for await (const message of answer as AsyncIterable<unknown>) await call.send(message);
  } else await call.send(await answer);
}

async function onlyRequest(call: Call): Promise<unknown> {
  const request = await call.receive();
  if (request === undefined)
    throw new BuildError('cardinality violation: no request message', { code: Code.internal });
  if ((await call.receive()) !== undefined)
    throw new BuildError('cardinality violation: more than one request message', { code: Code.internal });
  return request;
}

/** How long a caller that was answered may leave its own side open. */
const RESET_AFTER_MS = 1000;
const NOTHING = { encode: () => ({ finish: () => new Uint8Array(0) }), decode: () => undefined };

/** A call as its server sees it. */
class Call extends CallStream<unknown, unknown> implements ServerCall {
  readonly path: string;
  readonly metadata: Metadata;
  readonly peer: Peer;
  readonly #stream: Http2Stream;
  readonly #headers = [':status', '200', 'content-type', 'application/grpc'];
  readonly #trailers: string[] = [];
  #headersSent = false;
  #finished = false;
  #deadline: NodeJS.Timeout | undefined;

  constructor(
    stream: Http2Stream,
    path: string,
    raw: readonly string[],
    peer: Peer,
    method?: MethodDefinition,
  ) {
    super(stream, method?.requestType ?? NOTHING, method?.responseType ?? NOTHING);
    this.#stream = stream;
    this.path = path;
    this.metadata = Metadata.fromRaw(raw);
    this.peer = peer;
    const timeout = parseTimeout(rawHeader(raw, 'grpc-timeout'));
    if (timeout !== undefined) {
      const late = new BuildError('context deadline exceeded', { code: Code.deadlineExceeded });
      this.#deadline = setTimeout(() => this.fail(late), Math.min(timeout, 0x7fffffff));
    }
    stream.events = {
      headers: () => {}, // trailers of a request say nothing in gRPC
      readable: () => this.wake(),
      closed: () => {
        clearTimeout(this.#deadline);
        if (!this.#finished) this.fail(canceled());
        this.wake();
      },
    };
  }

  setHeader(key: string, value: string): void {
    new Metadata().append(key, value).writeTo(this.#headers);
  }

  setTrailer(key: string, value: string): void {
    this.#trailers.push(key.toLowerCase(), value);
  }

  sendHeaders(): void {
    if (this.#headersSent || this.#stream.closed) return;
    this.#headersSent = true;
    this.#stream.headers(this.#headers);
  }

  override send(message: unknown): Promise<void> {
    this.sendHeaders();
    return super.send(message);
  }

  /** The handler returns to end the call. */
  override end(): void {}

  finish(error: BuildError | undefined): void {
    clearTimeout(this.#deadline);
    this.#finished = true;
    const stream = this.#stream;
    if (stream.closed) return;
    const status = error ? statusHeaders(statusOf(error)) : { 'grpc-status': '0' };
    const trailers = [...this.#trailers, ...Object.entries(status).flat()];
    if (this.#headersSent) stream.end(trailers);
    else stream.headers([...this.#headers, ...trailers], { end: true });
    this.#release();
  }

  /**
   * The rest of what the caller may still send is not wanted. It ends its side when it sees the status; a reset
   * from here is for callers that do not, since it overtakes a status that waits for the transport.
   */
  #release(): void {
    const stream = this.#stream;
    process.nextTick(() => this.discard());
    if (stream.ended) return;
    setTimeout(() => {
      if (stream.sentEnd && !stream.ended) stream.reset(ErrorCode.noError);
    }, RESET_AFTER_MS).unref();
  }
}

const UNITS: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

function parseTimeout(text: string | undefined): number | undefined {
  const match = text === undefined ? null : /^(\d{1,8})([HMSmun])$/.exec(text);
  return match ? Number(match[1]) * (UNITS[match[2] as string] as number) : undefined;
}
