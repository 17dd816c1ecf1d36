/** Thrown inside when the work's owner is no longer wanted; never seen by callers that still want it. */
export class Unwanted extends Error {
  override name = 'AbortError';
  constructor() {
    super('context canceled');
  }
}

/**
 * A remembered async value without signals of its own. Who wants the result is counted at the vertex, not
 * here; a run that ended because nobody wanted it is forgotten, and the next caller starts afresh.
 */
export class Memo<T> {
  readonly #work: () => Promise<T>;
  #run: Promise<T> | undefined;
  #value: { readonly value: T } | undefined;
  #failed = false;

  constructor(work: () => Promise<T>) {
    this.#work = work;
  }

  /** The value once it is there. */
  get settled(): { readonly value: T } | undefined {
    return this.#value;
  }

  get running(): boolean {
    return this.#run !== undefined && this.#value === undefined && !this.#failed;
  }

  get(): Promise<T> {
    if (this.#run) return this.#run;
    // On a microtask, so that a chain of thousands of steps does not grow the stack.
    const run = Promise.resolve().then(this.#work);
    this.#run = run;
    run.then(
      (value) => {
        this.#value = { value };
      },
      (error: unknown) => {
        if (error instanceof Unwanted) this.#run = undefined;
        else this.#failed = true;
      },
    );
    return run;
  }
}
