import { Worker } from 'node:worker_threads';
import { BuildError, Code } from '../base/errors.ts';
import type { JobRunner, Jobs, RunOptions } from './types.ts';
import { fromPlainError, type JobMessage, type WorkerMessage } from './wire.ts';

export interface PoolOptions {
  /** Most threads at once. */
  readonly size: number;
  /** The worker entry, which calls `serveJobs`: a file, or CommonJS source text. */
  readonly worker: { readonly file: URL | string } | { readonly source: string };
  /** How long a thread without work is kept, in ms. */
  readonly idleMs?: number;
  /** Jobs that may wait for a thread; more are refused. */
  readonly maxQueue?: number;
  /** Called when the last thread has ended for want of work, for giving memory back. */
  readonly onIdle?: () => void;
  /** Given to the entry as `workerData`. */
  readonly workerData?: unknown;
}

const IDLE_MS = 3000;
const MAX_QUEUE = 10_000;
/** How long a job may go on after an abort before its thread is ended. */
const ABORT_GRACE_MS = 10_000;
/** Jobs stream: what they hold at once is small, buffers lie outside the heap. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 };

interface Task {
  readonly name: string;
  readonly input: unknown;
  readonly options: RunOptions;
  readonly abort: Int32Array;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

interface Thread {
  readonly worker: Worker;
  task: Task | undefined;
  idle: NodeJS.Timeout | undefined;
}

/** Worker threads, started when there is work and ended when there is none for a while. */
export class WorkerPool<J extends Jobs> implements JobRunner<J>, AsyncDisposable {
  readonly #options: PoolOptions;
  readonly #threads = new Set<Thread>();
  /** Most recently used last, so that the others get old and end. */
  readonly #free: Thread[] = [];
  readonly #queue = new Set<Task>();
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** Threads alive now. */
  get threads(): number {
    return this.#threads.size;
  }

  run<K extends keyof J & string>(
    name: K,
    input: Parameters<J[K]>[0],
    options: RunOptions = {},
  ): Promise<Awaited<ReturnType<J[K]>>> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (this.#closed) return reject(new BuildError('worker pool is closed', { code: Code.unavailable }));
      if (this.#queue.size >= (this.#options.maxQueue ?? MAX_QUEUE)) {
        return reject(new BuildError('worker pool: too many jobs waiting', { code: Code.resourceExhausted }));
      }
      const abort = new Int32Array(new SharedArrayBuffer(4));
      let grace: NodeJS.Timeout | undefined;
      const onAbort = (): void => {
        Atomics.store(abort, 0, 1);
        if (this.#queue.delete(task)) task.reject(signal?.reason);
        else grace = setTimeout(() => this.#endThreadOf(task), ABORT_GRACE_MS).unref();
      };
      const settle = (): void => {
        clearTimeout(grace);
        signal?.removeEventListener('abort', onAbort);
      };
      const task: Task = {
        name,
        input,
        options,
        abort,
        resolve: (value) => {
          settle();
          if (signal?.aborted) reject(signal.reason);
          else resolve(value as Awaited<ReturnType<J[K]>>);
        },
        reject: (error) => {
          settle();
          reject(signal?.aborted ? signal.reason : error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#queue.add(task);
      this.#pump();
    });
  }

  /** For work that is about to come: starts a thread if there is none, which takes longer than most jobs. */
  warm(): void {
    if (this.#closed || this.#threads.size > 0) return;
    this.#rest(this.#start());
  }

  /** Ends all threads; jobs that run or wait are rejected. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const error = new BuildError('worker pool is closed', { code: Code.unavailable });
    for (const task of this.#queue) task.reject(error);
    this.#queue.clear();
    await Promise.all([...this.#threads].map((thread) => thread.worker.terminate()));
  }

  #pump(): void {
    for (const task of this.#queue) {
      const thread =
        this.#free.pop() ?? (this.#threads.size < this.#options.size ? this.#start() : undefined);
      if (!thread) return;
      this.#queue.delete(task);
      this.#assign(thread, task);
    }
  }

  #assign(thread: Thread, task: Task): void {
    clearTimeout(thread.idle);
    thread.task = task;
    thread.worker.ref();
    const message: JobMessage = {
      kind: 'job',
      name: task.name,
      input: task.input,
      abort: task.abort.buffer as SharedArrayBuffer,
    };
    try {
      thread.worker.postMessage(message, [...(task.options.transfer ?? [])]);
    } catch (error) {
      // The input cannot be cloned.
      this.#release(thread);
      task.reject(BuildError.from(error));
    }
  }

  #start(): Thread {
    const { worker: entry, workerData } = this.#options;
    const options = {
      workerData,
      trackUnmanagedFds: false, // descriptors also come from and go to system calls
      resourceLimits: RESOURCE_LIMITS,
      execArgv: [],
    };
    const worker =
      'source' in entry
        ? new Worker(entry.source, { ...options, eval: true })
        : new Worker(entry.file, options);
    const thread: Thread = { worker, task: undefined, idle: undefined };
    this.#threads.add(thread);
    let failure: unknown;
    worker.on('message', (message: WorkerMessage) => this.#receive(thread, message));
    worker.on('error', (error) => {
      failure = error;
    });
    worker.on('exit', () => this.#lost(thread, failure));
    return thread;
  }

  #receive(thread: Thread, message: WorkerMessage): void {
    const { task } = thread;
    if (message.kind === 'ready' || !task) return;
    if (message.kind === 'progress') {
      task.options.onProgress?.(message.value);
      return;
    }
    this.#release(thread);
    if (message.kind === 'done') task.resolve(message.value);
    else task.reject(fromPlainError(message.error));
    this.#pump();
  }

  #release(thread: Thread): void {
    thread.task = undefined;
    this.#rest(thread);
  }

  #rest(thread: Thread): void {
    thread.worker.unref();
    this.#free.push(thread);
    thread.idle = setTimeout(() => this.#retire(thread), this.#options.idleMs ?? IDLE_MS).unref();
  }

  #retire(thread: Thread): void {
    const at = this.#free.indexOf(thread);
    if (at < 0) return;
    this.#free.splice(at, 1);
    this.#threads.delete(thread);
    void thread.worker.terminate().then(() => {
      if (this.#threads.size === 0) this.#options.onIdle?.();
    });
  }

  #endThreadOf(task: Task): void {
    for (const thread of this.#threads) if (thread.task === task) void thread.worker.terminate();
  }

  /** A thread ended: by us, or because a job used up its memory or threw where nobody caught it. */
  #lost(thread: Thread, failure: unknown): void {
    clearTimeout(thread.idle);
    this.#threads.delete(thread);
    const at = this.#free.indexOf(thread);
    if (at >= 0) this.#free.splice(at, 1);
    const { task } = thread;
    thread.task = undefined;
    if (task) {
      const code = this.#closed ? Code.unavailable : Code.internal;
      const reason = this.#closed ? 'worker pool is closed' : `worker thread ended during ${task.name}`;
      task.reject(
        failure === undefined
          ? new BuildError(reason, { code })
          : new BuildError(`${reason}: ${failure instanceof Error ? failure.message : String(failure)}`, {
              code,
              cause: failure,
            }),
      );
    }
    if (!this.#closed) this.#pump();
  }
}
