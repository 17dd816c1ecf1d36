import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { RefManager } from '../cache/ref.ts';
import { bytesText } from '../client/units.ts';
import { FROM_RECEIVER } from '../session/fsutil/sender.ts';
import type { FileSystemSpace } from '../sys/stat.ts';
import type { DiskSpace } from './config-values.ts';
import { type DiskLimits, diskLimits, headroom, takenBytes, UsedBytes } from './disk-limits.ts';

/** The disk is asked this often while builds run, more often the nearer its end is. */
const MIN_SAMPLE_MS = 20;
const MAX_SAMPLE_MS = 500;
/** What a step may write, 4 GB/s, into the cache of a fast disk. */
const FAST_BYTES_PER_MS = 4e6;
/** From the decision to stop a step until it writes no more. */
const REACTION_MS = 150;
/** While builds run, what others write on the same disk is told apart this often, or after a multiple of what it takes. */
const MEASURE_MS = 10_000;
const MEASURE_REST = 50;
/** Where nothing could be removed, it is tried again after this time. */
const RETRY_MS = 500;
/** The longest that steps wait for room: what takes longer to remove is too slow for them. */
const MAX_PAUSE_MS = 60_000;
/** Pauses that follow one another this soon are told of once. */
const PAUSE_LOG_MS = 10_000;
/** Steps named in an error. */
const MAX_NAMED = 3;
/** Rounds of removing and looking again before what is left counts as all that can be had. */
const MAX_ROUNDS = 20;

export interface DiskGuardParts {
  /** Shown in errors. */
  readonly root: string;
  readonly hardLimit: DiskSpace | undefined;
  readonly space: () => FileSystemSpace;
  readonly refs: Pick<RefManager, 'evict' | 'inUse'>;
  /** Bytes below the state directory, counted in a worker. */
  readonly measure: (signal: AbortSignal) => Promise<number>;
  /** Resolves when what was removed is off the disk. */
  readonly emptied: () => Promise<unknown>;
  /** Stops and continues what runs in containers. */
  readonly steps: PausableSteps;
  readonly log: Logger;
}

export interface PausableSteps {
  /** Also of those that were starting at an earlier call. False when something goes on running. */
  pause(): boolean;
  resume(): void;
}

interface Writer {
  readonly name: string;
  readonly stop: AbortController;
  /** It writes in a container. */
  readonly contained: boolean;
  /** The least room that was left while it ran. */
  least: number;
}

/**
 * Keeps the disk from filling while builds run: makes room by removing what nobody uses; steps that write faster
 * than that stand still meanwhile. Where nothing is left to remove, it fails them, with an error that says so. The
 * disk is asked for its free space, which costs microseconds; the state directory is measured only where it has a
 * limit of its own.
 */
export class DiskGuard implements AsyncDisposable {
  readonly #parts: DiskGuardParts;
  readonly #limits: DiskLimits;
  readonly #used = new UsedBytes();
  readonly #end = new AbortController();
  readonly #writers = new Set<Writer>();
  #giveUp: () => Promise<boolean> = async () => false;
  #watchers = 0;
  #timer: NodeJS.Timeout | undefined;
  #measuring: Promise<void> | undefined;
  #making: Promise<void> | undefined;
  /** Since when there has been no room, as far as is known. */
  #overflowAt: number | undefined;
  /** Since when steps stand still for want of room; remembered until there is some. */
  #pausedAt: number | undefined;
  #lastPauseAt = Number.NEGATIVE_INFINITY;
  #exhaustedAt = Number.NEGATIVE_INFINITY;
  #last: { readonly head: number; readonly at: number } | undefined;
  /** What was in use when nothing more could be removed. */
  #inUse: Awaited<ReturnType<RefManager['inUse']>> | undefined;
  #measureEveryMs = MEASURE_MS;
  /** Bytes per millisecond by which the room has shrunk of late. */
  #rate = 0;

  constructor(parts: DiskGuardParts) {
    this.#parts = parts;
    this.#limits = diskLimits(parts.hardLimit, parts.space().totalBytes);
  }

  /** Watches the disk until disposal. */
  watch(): Disposable {
    if (this.#watchers++ === 0) {
      this.#forgetRate();
      this.#tick();
    }
    return {
      [Symbol.dispose]: () => {
        if (--this.#watchers > 0) return;
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.#resume();
      },
    };
  }

  /**
   * Runs work that writes to the disk. Its signal aborts also when the disk is full.
   * @throws resourceExhausted with what the disk is full of
   */
  async writing<T>(
    { name, contained, signal }: { name: string; contained: boolean; signal: AbortSignal },
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#head() < 0) await this.#hasRoom(name);
    const writer: Writer = { name, contained, stop: new AbortController(), least: Number.POSITIVE_INFINITY };
    this.#writers.add(writer);
    if (this.#timer) this.#tick(); // the next sample may be far away
    try {
      return await work(AbortSignal.any([signal, writer.stop.signal]));
    } catch (error) {
      if (writer.stop.signal.aborted) throw writer.stop.signal.reason;
      if (signal.aborted || (Math.min(writer.least, this.#head()) >= 0 && !isNoSpace(error))) throw error;
      // It failed by itself before it was stopped.
      throw BuildError.wrap(error, this.#full(name).message);
    } finally {
      this.#writers.delete(writer);
      if (writer.stop.signal.aborted) this.#reclaim();
    }
  }

  /** What a stopped step has written goes at once: the next one may need it. */
  #reclaim(): void {
    this.#exhaustedAt = Number.NEGATIVE_INFINITY;
    this.#forgetRate();
    void this.#makeRoom();
  }

  #forgetRate(): void {
    this.#rate = 0;
    this.#last = undefined;
  }

  #head(): number {
    const space = this.#parts.space();
    return headroom(this.#limits, space, this.#used.estimate(space));
  }

  async #hasRoom(name: string): Promise<void> {
    await this.#makeRoom();
    if (this.#head() < 0) throw this.#full(name);
  }

  #tick(): void {
    const now = performance.now();
    const head = this.#head();
    this.#learnRate(head, now);
    for (const writer of this.#writers) writer.least = Math.min(writer.least, head);
    const { marginBytes, foreseenBytes } = this.#limits;
    const expected = head - Math.min(this.#rate * REACTION_MS, foreseenBytes);
    if (expected < marginBytes && now - this.#exhaustedAt > RETRY_MS) void this.#makeRoom();
    if (this.#limits.ceilingBytes !== undefined && now - this.#used.at > this.#measureEveryMs)
      void this.#measure();
    if (expected >= 0) this.#overflowAt = undefined;
    else this.#overflow(head, (this.#overflowAt ??= now), now);
    if (head >= marginBytes || !(this.#making || this.#measuring)) this.#resume();
    // A step may start to write as fast as the disk takes it at any time.
    const interval = head / Math.max(this.#rate * 4, this.#writers.size > 0 ? FAST_BYTES_PER_MS : 0);
    const wait = Math.min(MAX_SAMPLE_MS, Math.max(MIN_SAMPLE_MS, interval));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tick(), wait).unref();
  }

  #learnRate(head: number, now: number): void {
    const passed = now - (this.#last?.at ?? 0);
    if (passed < MIN_SAMPLE_MS / 2) return;
    if (this.#last) this.#rate = Math.max(this.#rate / 2, (this.#last.head - head) / passed, 0);
    this.#last = { head, at: now };
  }

  /** The room is about to end. What is under way may bring more: those who stand still can wait for that. */
  #overflow(head: number, since: number, now: number): void {
    if (this.#writers.size === 0) return;
    // Others may have written on the same disk: the next sample decides.
    const unsure = !this.#making && this.#limits.ceilingBytes !== undefined && this.#used.at < since;
    if (unsure) void this.#measure();
    const paused = (this.#making || unsure) && this.#pause(now);
    if (this.#making && head <= 0 && paused) this.#stopWriters(({ contained }) => !contained);
    if (unsure || (this.#making && (head > 0 || paused))) return;
    if (head <= 0 || now - this.#exhaustedAt <= RETRY_MS) this.#stopWriters();
  }

  /** False when they go on writing, or have waited for long enough. */
  #pause(now: number): boolean {
    if (this.#pausedAt === undefined && now - this.#lastPauseAt > PAUSE_LOG_MS)
      this.#parts.log.info('steps wait while room is made on the disk');
    this.#pausedAt ??= now;
    this.#lastPauseAt = now;
    if (now - this.#pausedAt < MAX_PAUSE_MS) return this.#parts.steps.pause();
    this.#parts.steps.resume();
    return false;
  }

  #resume(): void {
    if (this.#pausedAt === undefined) return;
    this.#pausedAt = undefined;
    this.#parts.steps.resume();
  }

  #stopWriters(which: (writer: Writer) => boolean = () => true): void {
    for (const writer of this.#writers) {
      if (writer.stop.signal.aborted || !which(writer)) continue;
      const error = this.#full(writer.name);
      this.#parts.log.warn(error.message);
      writer.stop.abort(error);
    }
  }

  /** What is done when nothing is left that nobody uses: `drop` lets go of what builds can do without, if there is any. */
  onNothingLeft(drop: () => Promise<boolean>): void {
    this.#giveUp = drop;
  }

  /** Removes what nobody uses until there is room again, or nothing is left. Callers share it. */
  #makeRoom(): Promise<void> {
    this.#making ??= this.#evict()
      .catch((error) => this.#parts.log.error('could not make room on the disk', { error }))
      .finally(() => {
        this.#making = undefined;
      });
    return this.#making;
  }

  async #evict(): Promise<void> {
    const { refs, emptied, log } = this.#parts;
    const signal = this.#end.signal;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      if (this.#limits.ceilingBytes !== undefined) await this.#measure();
      const wanted = 2 * this.#limits.marginBytes - this.#head();
      if (wanted <= 0) return;
      let records = 0;
      let bytes = 0;
      for await (const record of refs.evict({ signal })) {
        records++;
        bytes += record.size;
        if (bytes >= wanted) break;
      }
      if (records === 0 && !(await this.#giveUp())) break;
      await emptied();
      log.info('removed records to make room on the disk', { records, bytes });
    }
    // What was removed by others meanwhile counts as well.
    if (this.#limits.ceilingBytes !== undefined) await this.#measure();
    if (this.#head() >= this.#limits.marginBytes) return;
    this.#exhaustedAt = performance.now();
    this.#inUse = await refs.inUse(signal);
  }

  #measure(): Promise<void> {
    this.#measuring ??= (async () => {
      const start = performance.now();
      const before = takenBytes(this.#parts.space());
      const bytes = await this.#parts.measure(this.#end.signal);
      const after = takenBytes(this.#parts.space());
      // What came in the meantime was counted in part: half of it is as good as any guess.
      this.#used.set(bytes, (before + after) / 2, start);
      this.#measureEveryMs = Math.max(MEASURE_MS, (performance.now() - start) * MEASURE_REST);
    })()
      .catch((error) => {
        if (!this.#end.signal.aborted) this.#parts.log.warn('could not measure the disk', { error });
      })
      .finally(() => {
        this.#measuring = undefined;
      });
    return this.#measuring;
  }

  #full(name: string): BuildError {
    const { root, space: ask } = this.#parts;
    const { ceilingBytes, reserveBytes } = this.#limits;
    const space = ask();
    const used = this.#used.estimate(space);
    const byCeiling = ceilingBytes !== undefined && ceilingBytes - used < space.availableBytes - reserveBytes;
    const limit = byCeiling
      ? `the ceiling of ${bytesText(ceilingBytes)} (worker.oci.hardLimit) is reached with ${bytesText(used)}`
      : `the disk of ${root} has ${bytesText(space.availableBytes)} left of ${bytesText(space.totalBytes)}`;
    const hint = byCeiling ? 'raise hardLimit in buildkitd.toml' : 'free space on that disk';
    return new BuildError(`no space left on device for ${name}: ${limit}; ${this.#holders()}`, {
      code: Code.resourceExhausted,
      hint: `${hint}, or let fewer builds run at once`,
    });
  }

  /** What the room is used by. */
  #holders(): string {
    if (this.#making || !this.#inUse)
      return 'records that nobody uses are being removed, but not as fast as is written';
    const { bytes, largest } = this.#inUse;
    const named = largest.map(({ size, description, id }) => `${bytesText(size)} by ${description || id}`);
    const list = named.length > 0 ? `, among them ${named.join(', ')}` : '';
    const writers = [...this.#writers].map(({ name }) => name).slice(0, MAX_NAMED);
    return `no record is left that could be removed: builds use ${bytesText(bytes)}${list}; the rest is metadata and what is written by ${writers.join(', ') || 'nobody'}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#resume();
    this.#end.abort();
    await Promise.race([
      Promise.all([this.#making, this.#measuring]),
      sleep(CLOSE_MS, undefined, { ref: false }),
    ]);
  }
}

/** How long the end waits for room being made. */
const CLOSE_MS = 5_000;

/** On this machine: a client's disk may be full as well. */
function isNoSpace(error: unknown): boolean {
  if (error instanceof Error && error.message.includes(FROM_RECEIVER)) return false;
  for (let next: unknown = error; next instanceof Error; next = next.cause)
    if (
      (next as NodeJS.ErrnoException).code === 'ENOSPC' ||
      /ENOSPC|no space left on device/i.test(next.message)
    )
      return true;
  return false;
}
