import { BuildError, Code } from '../base/errors.ts';

/** How long a gateway call waits for its build to register, milliseconds (FEATURES B25). */
const REGISTER_WAIT_MS = 3000;

/** Running builds that take gateway calls from their client, by build id. */
export class BuildRegistry<B> {
  readonly #builds = new Map<string, B>();
  readonly #waiters = new Map<string, Set<(build: B) => void>>();

  /** Registers a build until disposed. */
  register(id: string, build: B): Disposable {
    this.#builds.set(id, build);
    for (const wake of this.#waiters.get(id) ?? []) wake(build);
    this.#waiters.delete(id);
    return { [Symbol.dispose]: () => this.#builds.get(id) === build && this.#builds.delete(id) };
  }

  /** The build, or notFound when it does not appear soon: clients call before Solve has arrived. */
  async get(id: string, signal: AbortSignal): Promise<B> {
    return this.#builds.get(id) ?? this.#wait(id, signal);
  }

  #wait(id: string, signal: AbortSignal): Promise<B> {
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(id) ?? new Set();
      this.#waiters.set(id, waiters);
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        waiters.delete(wake);
        if (waiters.size === 0 && this.#waiters.get(id) === waiters) this.#waiters.delete(id);
      };
      const wake = (build: B): void => {
        end();
        resolve(build);
      };
      const fail = (error: unknown): void => {
        end();
        reject(error);
      };
      const onAbort = (): void => fail(signal.reason);
      const timer = setTimeout(
        () => fail(new BuildError(`no such job ${id}`, { code: Code.notFound, told: true })),
        REGISTER_WAIT_MS,
      );
      signal.addEventListener('abort', onAbort, { once: true });
      waiters.add(wake);
    });
  }
}
