/** Work under way, so that whoever closes something can wait until nothing uses it any more. */
export class Running {
  readonly #work = new Set<Promise<unknown>>();

  /** `work` itself; counted until it settles. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#work.add(work);
    const ended = (): void => void this.#work.delete(work);
    work.then(ended, ended);
    return work;
  }

  get count(): number {
    return this.#work.size;
  }

  /** Waits until all of it has ended, also what it started meanwhile; false when that takes longer than `limitMs`. */
  async ended(limitMs: number): Promise<boolean> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      resolve();
    }, limitMs);
    try {
      while (this.#work.size > 0 && !isLate) await Promise.race([Promise.allSettled(this.#work), late]);
    } finally {
      clearTimeout(timer);
    }
    return this.#work.size === 0;
  }
}
