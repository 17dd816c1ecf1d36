import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, canceled, Code, invalidArgument } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { HealthDefinition } from '../pb/health.ts';
import { connectGrpc, type GrpcChannel } from '../rpc/client.ts';
import type { Metadata } from '../rpc/metadata.ts';
import type { CallOptions, Client, ServiceDefinition } from '../rpc/types.ts';
import { SESSION_HEALTH_TIMEOUT, SESSION_ID, SESSION_METHOD, SESSION_SHARED_KEY } from './wire.ts';

/** How long a build waits for a session of its group that has not connected yet (FEATURES C3). */
const GROUP_WAIT_MS = 5_000;
const HEALTH_INTERVAL_MS = 5_000;
const HEALTH_TIMEOUT_MS = 15_000;
const HEALTH_FAILURES = 2;

/** Services that a connected client lends to the daemon. Ends when the client goes or fails its health checks. */
export interface Session {
  readonly id: string;
  /** Key under which the client's local sources are kept between builds; '' when it gave none. */
  readonly sharedKey: string;
  /** True when the client offers `/package.Service/Method`; case does not matter. */
  supports(method: string): boolean;
  /** Typed client over the session's connection. */
  client<S extends ServiceDefinition>(service: S): Client<S>;
  /** Aborted when the session ends; its reason says why. */
  readonly signal: AbortSignal;
}

/** `/package.Service/Method`, as sessions announce it. */
export function methodPath(
  service: ServiceDefinition,
  method: keyof ServiceDefinition['methods'] & string,
): string {
  return `/${service.fullName}/${service.methods[method]?.name ?? method}`;
}

/** All sessions now connected to the daemon. */
export class SessionManager {
  readonly #sessions = new Map<string, ConnectedSession>();
  readonly #waiting = new Set<() => void>();
  readonly #log: Logger | undefined;

  constructor(options: { readonly log?: Logger } = {}) {
    this.#log = options.log;
  }

  /**
   * Serves one session connection: speaks HTTP/2 as a client on `stream`, whose other end answers.
   * Resolves when the session is over. @throws BuildError when its health checks failed.
   */
  async handle(stream: Duplex, metadata: Metadata, signal: AbortSignal): Promise<void> {
    const id = metadata.get(SESSION_ID) ?? '';
    // Builds without a session have this id: what they ask for must not reach whoever takes it.
    if (id === '') throw invalidArgument('session without an id');
    if (this.find(id)) throw taken(id);
    const channel = connectGrpc(stream, { authority: 'localhost' });
    const session = new ConnectedSession(id, metadata, channel);
    this.#register(session);
    const onAbort = (): void => session.end(canceled());
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      await session.run(this.#log);
    } finally {
      signal.removeEventListener('abort', onAbort);
      if (this.#sessions.get(id) === session) this.#sessions.delete(id);
      stream.destroy();
    }
  }

  #register(session: ConnectedSession): void {
    if (session.signal.aborted) return;
    if (this.find(session.id)) {
      session.end(taken(session.id));
      return;
    }
    this.#sessions.set(session.id, session);
    for (const wake of [...this.#waiting]) wake();
  }

  /** The session now, if it is connected. A `prefix:` before the id is ignored. */
  find(id: string): Session | undefined {
    const session = this.#sessions.get(plainId(id));
    return session && !session.signal.aborted ? session : undefined;
  }

  /** Waits until the session connects; aborting `signal` stops the wait. @throws BuildError `no active session for …` */
  async get(id: string, signal: AbortSignal): Promise<Session> {
    for (;;) {
      const session = this.find(id);
      if (session) return session;
      if (signal.aborted) throw BuildError.wrap(signal.reason, `no active session for ${plainId(id)}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    }
  }

  /**
   * Does `work` with the first session of `ids` with which it succeeds, each waited for up to 5 s.
   * The signal it gets also aborts when that session ends. The last error is thrown when none does.
   */
  async any<T>(
    ids: readonly string[],
    signal: AbortSignal,
    work: (session: Session, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    let last: unknown;
    for (const id of ids) {
      signal.throwIfAborted();
      try {
        const session = await this.get(id, AbortSignal.any([signal, AbortSignal.timeout(GROUP_WAIT_MS)]));
        return await work(session, AbortSignal.any([signal, session.signal]));
      } catch (error) {
        last = error;
      }
    }
    signal.throwIfAborted();
    throw last ?? new BuildError('no active sessions');
  }

  /** Ends every session. */
  close(): void {
    for (const session of this.#sessions.values()) session.end(canceled());
  }
}

/** Who knows the id of a connected client could else take its place and get what its build sends. */
function taken(id: string): BuildError {
  return new BuildError(`session ${plainId(id)} exists already`, { code: Code.alreadyExists });
}

function plainId(id: string): string {
  const colon = id.indexOf(':');
  return colon >= 0 && colon < id.length - 1 ? id.slice(colon + 1) : id;
}

class ConnectedSession implements Session {
  readonly id: string;
  readonly sharedKey: string;
  readonly #channel: GrpcChannel;
  readonly #methods: ReadonlySet<string>;
  readonly #abort = new AbortController();
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #failures: number;

  constructor(id: string, metadata: Metadata, channel: GrpcChannel) {
    this.id = id;
    this.sharedKey = metadata.get(SESSION_SHARED_KEY) ?? '';
    this.#channel = channel;
    this.#methods = new Set(metadata.getAll(SESSION_METHOD).map((m) => m.toLowerCase()));
    const custom = Number(metadata.get(SESSION_HEALTH_TIMEOUT) ?? '');
    const own = Number.isInteger(custom) && custom > 0 ? Math.max(custom, 1000) : undefined;
    this.#intervalMs = own ?? HEALTH_INTERVAL_MS;
    this.#timeoutMs = own ?? HEALTH_TIMEOUT_MS;
    this.#failures = own === undefined ? HEALTH_FAILURES : 1;
    channel.closed.then((reason) => this.end(reason ?? canceled()));
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  supports(method: string): boolean {
    return this.#methods.has(method.toLowerCase());
  }

  client<S extends ServiceDefinition>(service: S): Client<S> {
    return this.#channel.client(service);
  }

  end(reason: BuildError): void {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort(reason);
    this.#channel.destroy(reason);
  }

  /** Health checks until the session ends (FEATURES C5). */
  async run(log: Logger | undefined): Promise<void> {
    const health = this.#channel.client(HealthDefinition);
    let failures = 0;
    let lastMs = 0;
    for (;;) {
      await sleep(this.#intervalMs, undefined, { signal: this.signal, ref: false }).catch(() => {});
      if (this.signal.aborted) return;
      const started = performance.now();
      const options: CallOptions = {
        signal: this.signal,
        timeoutMs: Math.max(this.#timeoutMs, lastMs * 1.5),
      };
      try {
        await health.check({ service: '' }, options);
        failures = 0;
      } catch (error) {
        if (this.signal.aborted) return;
        log?.warn('session healthcheck failed', { session: this.id, error });
        if (++failures >= this.#failures) {
          const fatal = BuildError.wrap(error, 'session healthcheck failed fatally');
          this.end(fatal);
          throw fatal;
        }
      }
      lastMs = performance.now() - started;
    }
  }
}
