import type { StepOwner } from './types.ts';

/** A step that runs or waits to. */
export interface SlotUse {
  /** Shown in state dumps. */
  readonly name: string;
  /** The jobs that want it now. */
  readonly owners: () => readonly StepOwner[];
}

/** What holds slots and what waits for one, in the order in which it would get one if all that runs went on. */
export interface SlotState {
  /** Infinity for no limit. */
  readonly limit: number;
  readonly running: readonly { readonly name: string; readonly job: string }[];
  readonly waiting: readonly {
    readonly name: string;
    readonly jobs: readonly string[];
    readonly since: number;
  }[];
}

interface Waiter {
  readonly use: SlotUse;
  readonly since: number;
  readonly grant: (slot: Slot) => void;
}

/**
 * Places for running steps, shared out fairly: the next one goes to the job with the fewest steps running, among
 * those to the one that was served longest ago. A build of a hundred steps does not keep one of a single step
 * waiting for more than the steps that run already. A job may have a limit of its own.
 */
export class Slots {
  readonly #limit: number;
  readonly #running = new Set<Slot>();
  #waiting: Waiter[] = [];
  /** When each job that waits or runs was served last; the serial number of the grant. */
  readonly #served = new Map<string, number>();
  #grants = 0;

  /** @param limit how many steps run at once; 0 = no limit */
  constructor(limit: number) {
    this.#limit = limit === 0 ? Number.POSITIVE_INFINITY : limit;
  }

  /** Waits for a place. Aborting leaves the queue. */
  async acquire(use: SlotUse, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal.reason);
        this.#share(); // the job may have been the only one with something to wait for
      };
      const waiter: Waiter = {
        use,
        since: Date.now(),
        grant: (slot) => {
          signal.removeEventListener('abort', onAbort);
          resolve(slot);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
      this.#share();
    });
  }

  get state(): SlotState {
    return {
      limit: this.#limit,
      running: [...this.#running].map(({ name, job }) => ({ name, job })),
      waiting: this.#inOrder().map(({ use, since }) => ({
        name: use.name,
        jobs: use.owners().map(({ id }) => id),
        since,
      })),
    };
  }

  /** Gives out what is free. */
  #share(): void {
    while (this.#running.size < this.#limit) {
      const next = this.#next();
      if (!next) break;
      const slot = new Slot(next.waiter.use.name, next.job, () => {
        this.#running.delete(slot);
        this.#share();
      });
      this.#running.add(slot);
      this.#served.set(next.job, ++this.#grants);
      this.#waiting = this.#waiting.filter((other) => other !== next.waiter);
      next.waiter.grant(slot);
    }
    if (this.#waiting.length > 0) return;
    const running = new Set([...this.#running].map(({ job }) => job));
    for (const job of this.#served.keys()) if (!running.has(job)) this.#served.delete(job);
  }

  #next(): Choice | undefined {
    return choose(this.#waiting, this.#counts(), this.#served);
  }

  /** Steps that run, by the job that they count for. */
  #counts(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { job } of this.#running) counts.set(job, (counts.get(job) ?? 0) + 1);
    return counts;
  }

  /** What waits, in the order of its turns; those far behind, and those of jobs at their own limit, as they came. */
  #inOrder(): Waiter[] {
    const counts = this.#counts();
    const served = new Map(this.#served);
    const left = new Set(this.#waiting);
    const ordered: Waiter[] = [];
    while (ordered.length < MAX_ORDERED) {
      const next = choose(left, counts, served);
      if (!next) break;
      left.delete(next.waiter);
      ordered.push(next.waiter);
      counts.set(next.job, (counts.get(next.job) ?? 0) + 1);
      served.set(next.job, this.#grants + ordered.length);
    }
    return [...ordered, ...left];
  }
}

interface Choice {
  readonly waiter: Waiter;
  readonly job: string;
}

function choose(
  waiting: Iterable<Waiter>,
  counts: ReadonlyMap<string, number>,
  served: ReadonlyMap<string, number>,
): Choice | undefined {
  let best: (Choice & { readonly rank: number }) | undefined;
  for (const waiter of waiting) {
    for (const { id, maxParallelism } of waiter.use.owners()) {
      const count = counts.get(id) ?? 0;
      if (count >= (maxParallelism ?? Number.POSITIVE_INFINITY)) continue;
      const rank = count * RANKS_PER_STEP + (served.get(id) ?? 0);
      if (!best || rank < best.rank) best = { waiter, job: id, rank };
    }
  }
  return best;
}

/** Steps whose turn is found out for a state; those behind them are told in order of arrival. */
const MAX_ORDERED = 100;

/** More than there are grants while something waits: first the steps that run count, then who was served last. */
const RANKS_PER_STEP = 2 ** 32;

class Slot implements Disposable {
  readonly name: string;
  /** The job that it counts for. */
  readonly job: string;
  #free: (() => void) | undefined;

  constructor(name: string, job: string, free: () => void) {
    this.name = name;
    this.job = job;
    this.#free = free;
  }

  [Symbol.dispose](): void {
    const free = this.#free;
    this.#free = undefined;
    free?.();
  }
}
