/** Counting semaphore, first come first served. */
export class Semaphore {
  #free: number;
  readonly #queue: Waiter[] = [];

  /** @param permits how many may hold it at once; Infinity for no limit. */
  constructor(permits: number) {
    this.#free = permits;
  }

  /** Waits for a permit. Aborting `signal` leaves the queue. */
  async acquire(signal?: AbortSignal): Promise<Permit> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else await this.#wait(signal);
    return new Permit(() => this.#release());
  }

  /** Runs `work` while holding a permit. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    using _permit = await this.acquire(signal);
    return await work();
  }

  #wait(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { resolve: done };
      const queue = this.#queue;
      function done(): void {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }
      function onAbort(): void {
        const at = queue.indexOf(waiter);
        if (at >= 0) queue.splice(at, 1);
        reject(signal?.reason);
      }
      signal?.addEventListener('abort', onAbort, { once: true });
      queue.push(waiter);
    });
  }

  #release(): void {
    const next = this.#queue.shift();
    if (next) next.resolve();
    else this.#free++;
  }
}

interface Waiter {
  readonly resolve: () => void;
}

/** Held permission; disposing it twice is harmless. */
export class Permit implements Disposable {
  #release: (() => void) | undefined;
  constructor(release: () => void) {
    this.#release = release;
  }
  [Symbol.dispose](): void {
    this.#release?.();
    this.#release = undefined;
  }
}
