import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

/** Work of this length is done before others get their turn, milliseconds. */
const SLICE_MS = 4;
/** Share of the time that background work takes from the main thread while others are busy. */
const SHARE = 0.2;
const MAX_SLEEP_MS = 100;

/**
 * Slices background work of the main thread: between two slices others have their turn, and as long as they are
 * busy the work rests in proportion to what it took.
 */
export class Pacer {
  readonly #busy: () => boolean;
  #start = performance.now();

  constructor(busy: () => boolean = () => false) {
    this.#busy = busy;
  }

  /** A task of its own, whose first slice starts now. */
  start(): Pacer {
    return new Pacer(this.#busy);
  }

  /** To be awaited after each small piece of work. */
  async turn(signal?: AbortSignal): Promise<void> {
    const took = performance.now() - this.#start;
    if (took < SLICE_MS) return;
    if (this.#busy()) await sleep(Math.min(MAX_SLEEP_MS, took * (1 / SHARE - 1)));
    else await nextTurn();
    signal?.throwIfAborted();
    this.#start = performance.now();
  }
}
