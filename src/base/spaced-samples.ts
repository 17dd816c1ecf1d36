export interface SpacedSamplesOptions {
  /** First distance of samples; doubled each time that `perDoubling` times it have passed. */
  readonly intervalMs: number;
  readonly perDoubling: number;
}

interface Taken<T> {
  readonly at: number;
  readonly sample: T;
}

/** Samples of something that goes on for nobody knows how long: few, at about equal distances. */
export class SpacedSamples<T> implements Disposable {
  readonly #read: (at: Date) => T | undefined;
  readonly #options: SpacedSamplesOptions;
  readonly #started = Date.now();
  readonly #taken: Taken<T>[] = [];
  readonly #timer: NodeJS.Timeout;
  #intervalMs: number;

  /** @param read gives nothing where nothing can be told any more */
  constructor(read: (at: Date) => T | undefined, options: SpacedSamplesOptions) {
    this.#read = read;
    this.#options = options;
    this.#intervalMs = options.intervalMs;
    this.#timer = setInterval(() => this.#tick(), options.intervalMs).unref();
  }

  /** The last one is taken now. */
  samples(): T[] {
    const last = this.#read(new Date());
    return [...this.#spread().map(({ sample }) => sample), ...(last ? [last] : [])];
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const at = Date.now();
    if (at - (this.#taken.at(-1)?.at ?? 0) < this.#intervalMs) return;
    const sample = this.#read(new Date(at));
    if (!sample) {
      clearInterval(this.#timer);
      return;
    }
    this.#taken.push({ at, sample });
    if (at - this.#started >= this.#intervalMs * this.#options.perDoubling) this.#thin();
  }

  #thin(): void {
    this.#intervalMs *= 2;
    this.#taken.splice(0, Number.POSITIVE_INFINITY, ...this.#spread());
  }

  #spread(): Taken<T>[] {
    let before = Number.NEGATIVE_INFINITY;
    return this.#taken.filter(({ at }) => {
      if (at - before < this.#intervalMs) return false;
      before = at;
      return true;
    });
  }
}
