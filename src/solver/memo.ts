/** Thrown inside when nobody wants the work any more; never seen by those who still want it. */
export class Unwanted extends Error {
  override name = 'AbortError';
  constructor() {
    super('context canceled');
  }
}

/**
 * A remembered async value. Its callers carry no signals: who wants it is counted at the vertex, and `wanted`
 * tells. Success and failure are kept. A run that ended as unwanted starts over when somebody wants it by then,
 * and is forgotten otherwise; a value is never computed twice at once.
 */
export class Memo<T> {
  readonly #work: () => Promise<T>;
  readonly #wanted: () => boolean;
  #run: Promise<T> | undefined;
  #value: { readonly value: T } | undefined;
  #since = 0;

  constructor(work: () => Promise<T>, wanted: () => boolean) {
    this.#work = work;
    this.#wanted = wanted;
  }

  /** The value once it is there. */
  get settled(): { readonly value: T } | undefined {
    return this.#value;
  }

  /** Unix milliseconds since when it is worked on; undefined when it is not. */
  get runningSince(): number | undefined {
    return this.#since === 0 ? undefined : this.#since;
  }

  get(): Promise<T> {
    this.#run ??= this.#start();
    return this.#run;
  }

  async #start(): Promise<T> {
    this.#since = Date.now();
    await undefined; // a microtask, so that a chain of thousands of steps does not grow the stack
    for (;;) {
      try {
        const value = await this.#work();
        this.#value = { value };
        this.#since = 0;
        return value;
      } catch (error) {
        const isFailure = !(error instanceof Unwanted);
        if (isFailure || !this.#wanted()) {
          if (!isFailure) this.#run = undefined;
          this.#since = 0;
          throw error;
        }
        await new Promise(setImmediate);
      }
    }
  }
}
