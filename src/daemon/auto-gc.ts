import type { Logger } from '../base/log.ts';
import type { PruneOptions, RefManager } from '../cache/ref.ts';

/** Time from a reason to collect to the collection, so that what ends together is looked at once. */
const DELAY_MS = 1_000;
/** Least time from the end of one collection to the start of the next. */
const PAUSE_MS = 60_000;
/** The same for cache keys without results, which are small. */
const RELEASE_PAUSE_MS = 5 * 60_000;

export interface AutoGcOptions {
  readonly refs: Pick<RefManager, 'prune'>;
  /** The rules in their order; none switch the collection off. */
  readonly policies: () => readonly PruneOptions[];
  /** Forgets results that are gone. */
  readonly releaseUnreferenced: (signal: AbortSignal) => Promise<unknown>;
  readonly log: Logger;
}

/** Garbage collection by the worker's policies: after the start and after every build (FEATURES A40). */
export class AutoGc implements AsyncDisposable {
  readonly #options: AutoGcOptions;
  readonly #end = new AbortController();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #collect: Throttled;
  readonly #release: Throttled;

  constructor(options: AutoGcOptions) {
    this.#options = options;
    this.#collect = new Throttled(PAUSE_MS, () => this.#run());
    this.#release = new Throttled(RELEASE_PAUSE_MS, () => this.#guarded(options.releaseUnreferenced));
  }

  /** Collects soon. */
  schedule(): void {
    if (this.#end.signal.aborted) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#collect.call();
    }, DELAY_MS).unref();
    this.#timers.add(timer);
  }

  #run(): Promise<void> {
    return this.#guarded(async (signal) => {
      const rules = this.#options.policies();
      if (rules.length === 0) return;
      let bytes = 0;
      let records = 0;
      for await (const record of this.#options.refs.prune(rules, { signal })) {
        bytes += record.size;
        records++;
      }
      if (records === 0) return;
      this.#options.log.debug('garbage collected', { records, bytes });
      this.#release.call();
    });
  }

  async #guarded(work: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    try {
      await work(this.#end.signal);
    } catch (error) {
      // What is left goes with the next collection.
      if (!this.#end.signal.aborted) this.#options.log.error('garbage collection failed', { error });
    }
  }

  /** Ends a collection under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all([this.#collect.close(), this.#release.close()]);
  }
}

/** Runs work when called, and after a pause once more when it was called meanwhile. */
class Throttled {
  readonly #pauseMs: number;
  readonly #work: () => Promise<void>;
  #wanted = false;
  #closed = false;
  #running: Promise<void> | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(pauseMs: number, work: () => Promise<void>) {
    this.#pauseMs = pauseMs;
    this.#work = work;
  }

  call(): void {
    this.#wanted = true;
    if (this.#closed || this.#running || this.#pause) return;
    this.#wanted = false;
    this.#running = this.#work().finally(() => {
      this.#running = undefined;
      this.#pause = setTimeout(() => {
        this.#pause = undefined;
        if (this.#wanted) this.call();
      }, this.#pauseMs).unref();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
    clearTimeout(this.#pause);
  }
}
