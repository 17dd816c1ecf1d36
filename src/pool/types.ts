/**
 * Work that runs off the main thread: plain data in, plain data out. A job module exports an object
 * of type `Jobs`; the worker entry (wired in daemon/) merges them; tests run them inline.
 */
export type Job<In, Out> = (input: In, context: JobContext) => Out | Promise<Out>;

export interface JobContext {
  /** Polled by synchronous jobs between units of work; throws when the caller has given up. */
  throwIfAborted(): void;
  /** Sends a progress value to the caller's `onProgress` (plain data). */
  report(value: unknown): void;
  /** Buffers of the result to hand over rather than copy; the job must not touch them afterwards. */
  transfer?(...buffers: readonly ArrayBuffer[]): void;
}

// biome-ignore lint/suspicious/noExplicitAny: a table of jobs of any input and output type
export type Jobs = Readonly<Record<string, Job<any, any>>>;

export interface RunOptions {
  readonly signal?: AbortSignal;
  /** Buffers handed over rather than copied. */
  readonly transfer?: readonly ArrayBuffer[];
  readonly onProgress?: (value: unknown) => void;
}

/**
 * Runs named jobs of the table `J`, in worker threads or inline. Errors arrive as BuildError; a system error
 * is its cause, with `code` (`ENOENT`, …), `syscall` and `path`. Aborting stops the work: the promise rejects
 * with the signal's reason once the job has stopped, so that what it wrote can be removed.
 */
export interface JobRunner<J extends Jobs> {
  run<K extends keyof J & string>(
    name: K,
    input: Parameters<J[K]>[0],
    options?: RunOptions,
  ): Promise<Awaited<ReturnType<J[K]>>>;
  /** For work that is about to come. */
  warm?(): void;
}
