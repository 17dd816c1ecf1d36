/**
 * A memoised async computation shared by all who join it. It starts with the first joiner and is
 * aborted one event-loop turn after the last one left, so that a hand-over between two waits is not
 * a cancellation. Success and failure are remembered; an abort is forgotten, and the next joiner
 * starts afresh.
 */
export class SharedTask<T> {
  readonly #work: (signal: AbortSignal) => Promise<T>;
  #run: Run<T> | undefined;

  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.#work = work;
  }

  /** Aborting `signal` stops this wait; the work stops only when nobody waits any more. */
  async join(signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    this.#run ??= this.#start();
    const run = this.#run;
    if (run.settled) return run.promise;
    run.waiters++;
    try {
      return await abortable(run.promise, signal);
    } finally {
      if (--run.waiters === 0 && !run.settled) setImmediate(() => this.#leave(run, signal?.reason));
    }
  }

  /** True once the work has succeeded or failed and the outcome is kept. */
  get settled(): boolean {
    return this.#run?.settled ?? false;
  }

  /** Forgets a kept outcome, so that the next join runs the work again. A running one is left alone. */
  reset(): void {
    if (this.#run?.settled) this.#run = undefined;
  }

  #start(): Run<T> {
    const abort = new AbortController();
    const run: Run<T> = { waiters: 0, settled: false, abort, promise: undefined as never };
    run.promise = Promise.resolve().then(() => this.#work(abort.signal));
    const settle = (): void => {
      run.settled = true;
      if (abort.signal.aborted && this.#run === run) this.#run = undefined;
    };
    run.promise.then(settle, settle);
    return run;
  }

  #leave(run: Run<T>, reason: unknown): void {
    if (run.waiters > 0 || run.settled) return;
    if (this.#run === run) this.#run = undefined;
    run.abort.abort(reason);
  }
}

interface Run<T> {
  waiters: number;
  settled: boolean;
  readonly abort: AbortController;
  promise: Promise<T>;
}

/** `promise`, or a rejection with the signal's reason as soon as it aborts. The work goes on. */
export function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) {
      promise.catch(() => {});
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
