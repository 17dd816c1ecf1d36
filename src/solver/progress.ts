import type { Digest } from '../base/digest.ts';
import type {
  ProgressGroup,
  SolveStatus,
  StatusUpdate,
  VertexLog,
  VertexProgress,
  VertexState,
  VertexStatusState,
  VertexWarning,
} from './types.ts';

/** Log text kept for readers that come late, bytes per job; the oldest goes first. */
const MAX_KEPT_LOG_BYTES = 4 << 20;
/** Log text waiting for one slow reader, bytes; the oldest goes first. */
const MAX_QUEUED_LOG_BYTES = 16 << 20;
/** Log text from which a reader that takes its time is served at once, bytes. */
const PAUSE_LOG_BYTES = 1 << 20;

const CANCELED = 'context canceled';

const EPOCH_NANOS = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

/** Unix nanoseconds from a clock that never goes back. */
export function nowNanos(): bigint {
  return EPOCH_NANOS + process.hrtime.bigint();
}

/** Everything one job's readers should see, and the readers. */
export class JobProgress {
  readonly #vertexes = new Map<Digest, VertexState>();
  readonly #statuses = new Map<string, VertexStatusState>();
  readonly #warnings: VertexWarning[] = [];
  readonly #logs = new BoundedLogs(MAX_KEPT_LOG_BYTES);
  readonly #readers = new Set<Reader>();
  #lastEvent = Date.now();
  #closed = false;

  /** Unix milliseconds of the last event, or of the start. */
  get lastEvent(): number {
    return this.#lastEvent;
  }

  vertex(state: VertexState): void {
    this.#lastEvent = Date.now();
    this.#vertexes.set(state.digest, state);
    for (const reader of this.#readers) reader.vertex(state);
  }

  status(state: VertexStatusState): void {
    this.#lastEvent = Date.now();
    this.#statuses.set(`${state.vertex}\0${state.id}`, state);
    for (const reader of this.#readers) reader.status(state);
  }

  log(log: VertexLog): void {
    this.#lastEvent = Date.now();
    this.#logs.push(log);
    for (const reader of this.#readers) reader.log(log);
  }

  warn(warning: VertexWarning): void {
    this.#lastEvent = Date.now();
    this.#warnings.push(warning);
    for (const reader of this.#readers) reader.warn(warning);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** No more events; readers end after what they have not seen yet. */
  close(): void {
    this.#closed = true;
    for (const reader of this.#readers) reader.wake();
  }

  /**
   * All events from the start, then live ones until the job closes. Aborting ends the iteration. With `pauseMs`
   * there is at most one message in that time, unless much was logged: for readers who need not be quick.
   */
  async *read(signal: AbortSignal, { pauseMs = 0 } = {}): AsyncGenerator<SolveStatus> {
    const reader = new Reader();
    for (const state of this.#vertexes.values()) reader.vertex(state);
    for (const state of this.#statuses.values()) reader.status(state);
    for (const log of this.#logs.all()) reader.log(log);
    for (const warning of this.#warnings) reader.warn(warning);
    this.#readers.add(reader);
    const onAbort = (): void => reader.wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted) {
        const status = reader.take();
        if (status) yield status;
        else if (this.#closed) return;
        else {
          await reader.wait();
          if (pauseMs > 0 && !this.#closed && !signal.aborted) await reader.pause(pauseMs);
        }
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#readers.delete(reader);
    }
  }
}

/** What one reader has not seen yet. Updates of the same run of a vertex, and of a status, replace each other. */
class Reader {
  #vertexes = new Map<string, VertexState>();
  #statuses = new Map<string, VertexStatusState>();
  #logs = new BoundedLogs(MAX_QUEUED_LOG_BYTES);
  #warnings: VertexWarning[] = [];
  #empty = true;
  #wake: (() => void) | undefined;
  #resume: (() => void) | undefined;

  vertex(state: VertexState): void {
    // One entry per run of the vertex: the end of an earlier run must be seen although a new one began.
    const run = `${state.digest} ${state.started ?? ''}`;
    this.#vertexes.delete(run);
    this.#vertexes.set(run, state);
    this.#changed();
  }

  status(state: VertexStatusState): void {
    this.#statuses.set(`${state.vertex}\0${state.id}`, state);
    this.#changed();
  }

  log(log: VertexLog): void {
    this.#logs.push(log);
    if (this.#logs.bytes > PAUSE_LOG_BYTES) this.#resume?.();
    this.#changed();
  }

  warn(warning: VertexWarning): void {
    this.#warnings.push(warning);
    this.#changed();
  }

  take(): SolveStatus | undefined {
    if (this.#empty) return undefined;
    const status: SolveStatus = {
      vertexes: [...this.#vertexes.values()],
      statuses: [...this.#statuses.values()],
      logs: this.#logs.all(),
      warnings: this.#warnings,
    };
    this.#vertexes = new Map();
    this.#statuses = new Map();
    this.#logs = new BoundedLogs(MAX_QUEUED_LOG_BYTES);
    this.#warnings = [];
    this.#empty = true;
    return status;
  }

  /** Until something is new, or somebody calls `wake`. */
  wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** For that long, until much is logged, or somebody calls `wake`. */
  async pause(ms: number): Promise<void> {
    if (this.#logs.bytes > PAUSE_LOG_BYTES) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#resume = resolve;
    const timer = setTimeout(resolve, ms);
    await promise;
    clearTimeout(timer);
    this.#resume = undefined;
  }

  /** Ends a wait or a pause: nothing more comes, or nobody wants it. */
  wake(): void {
    this.#resume?.();
    this.#arrived();
  }

  #changed(): void {
    this.#empty = false;
    this.#arrived();
  }

  #arrived(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}

class BoundedLogs {
  readonly #limit: number;
  #logs: VertexLog[] = [];
  #first = 0;
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  push(log: VertexLog): void {
    this.#logs.push(log);
    this.#bytes += log.data.length;
    while (this.#bytes > this.#limit && this.#first < this.#logs.length - 1) {
      this.#bytes -= this.#logs[this.#first]!.data.length;
      this.#first++;
    }
    if (this.#first > 1024 && this.#first * 2 > this.#logs.length) {
      this.#logs = this.#logs.slice(this.#first);
      this.#first = 0;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  all(): VertexLog[] {
    return this.#first === 0 ? [...this.#logs] : this.#logs.slice(this.#first);
  }
}

/**
 * Progress of one vertex, shown to every job that contains it. Jobs that join later are told what happened
 * so far, but for the log.
 */
export class VertexReporter implements VertexProgress {
  readonly #jobs = new Set<JobProgress>();
  readonly #statuses = new Map<string, VertexStatusState>();
  #state: VertexState;

  constructor(digest: Digest, name: string, inputs: readonly Digest[], progressGroup?: ProgressGroup) {
    const base = { digest, inputs, name, cached: false, error: '' };
    this.#state = progressGroup ? { ...base, progressGroup } : base;
  }

  get state(): VertexState {
    return this.#state;
  }

  join(job: JobProgress): void {
    if (this.#jobs.has(job)) return;
    this.#jobs.add(job);
    job.vertex(this.#state);
    for (const status of this.#statuses.values()) job.status(status);
  }

  /** What is under way goes on for others: here it ends. */
  leave(job: JobProgress): void {
    if (!this.#jobs.delete(job) || !this.#isUnderWay) return;
    const at = nowNanos();
    for (const status of this.#statuses.values())
      if (status.completed === undefined) job.status({ ...status, timestamp: at, completed: at });
    job.vertex({ ...this.#state, completed: at, error: CANCELED });
  }

  get #isUnderWay(): boolean {
    return this.#state.started !== undefined && this.#state.completed === undefined;
  }

  /** Shows the vertex as running from now on; a finished one starts again. */
  start(cached = false, at = nowNanos()): void {
    const { completed: _completed, ...rest } = this.#state;
    this.#update({ ...rest, started: at, cached, error: '' });
  }

  complete(error = '', at = nowNanos()): void {
    this.#update({ ...this.#state, started: this.#state.started ?? at, completed: at, error });
  }

  /** Shows what is still under way as cancelled. */
  cancel(): void {
    if (!this.#isUnderWay) return;
    for (const [id, { completed }] of this.#statuses)
      if (completed === undefined) this.status(id, { done: true });
    this.complete(CANCELED);
  }

  /** Shows a vertex that was never asked for as cached. */
  skip(at: bigint): void {
    if (this.#state.completed !== undefined || this.#state.started !== undefined) return;
    this.#update({ ...this.#state, started: at, completed: at, cached: true });
  }

  log(stream: 1 | 2, data: Uint8Array): void {
    const log = { vertex: this.#state.digest, stream, timestamp: nowNanos(), data };
    for (const job of this.#jobs) job.log(log);
  }

  status(id: string, update: StatusUpdate): void {
    const at = nowNanos();
    const before = this.#statuses.get(id);
    const next: VertexStatusState = {
      id,
      vertex: this.#state.digest,
      name: update.name ?? before?.name ?? '',
      current: update.current ?? before?.current ?? 0,
      total: update.total ?? before?.total ?? 0,
      timestamp: at,
      started: before?.started ?? at,
      ...(update.done ? { completed: at } : {}),
    };
    this.#statuses.set(id, next);
    for (const job of this.#jobs) job.status(next);
  }

  warn(warning: VertexWarning): void {
    for (const job of this.#jobs) job.warn(warning);
  }

  #update(state: VertexState): void {
    this.#state = state;
    for (const job of this.#jobs) job.vertex(state);
  }
}
