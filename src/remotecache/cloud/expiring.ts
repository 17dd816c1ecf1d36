import { BuildError } from '../../base/errors.ts';
import { SharedTask } from '../../base/shared-task.ts';

/** New ones are asked for this long before the old ones end. */
const MARGIN_MS = 5 * 60_000;

interface MayExpire {
  /** Unix milliseconds; undefined for what does not end. */
  readonly expiresAt?: number;
}

/** Keys or tokens that are found at their first use, kept, and found again before they end. */
export class Expiring<T extends MayExpire> {
  #kept: T | undefined;
  readonly #task: SharedTask<T>;

  /** @param find its signal aborts when nobody waits any more */
  constructor(find: (signal: AbortSignal) => Promise<T>) {
    this.#task = new SharedTask(find);
  }

  /** Aborting stops this wait. */
  async get(signal: AbortSignal): Promise<T> {
    const kept = this.#kept;
    const left = kept ? (kept.expiresAt ?? Number.POSITIVE_INFINITY) - Date.now() : 0;
    if (kept && left > MARGIN_MS) return kept;
    try {
      this.#kept = await this.#task.join(signal);
      return this.#kept;
    } catch (error) {
      signal.throwIfAborted();
      if (kept && left > 0) return kept; // good for a while still
      throw final(error);
    } finally {
      this.#task.reset();
    }
  }

  /** Forgets what has turned out to be no good. False when there are no others. */
  expire(): boolean {
    const ends = this.#kept?.expiresAt !== undefined;
    if (ends) this.#kept = undefined;
    return ends;
  }
}

/** Whoever looked has tried often enough: without its cause, the request that wants it is not tried again for it. */
function final(error: unknown): BuildError {
  const { message, code, hint } = BuildError.from(error);
  return new BuildError(message, { code, ...(hint === undefined ? {} : { hint }) });
}
