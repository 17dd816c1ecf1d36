import { type Permit, Semaphore } from './semaphore.ts';

/** Mutual exclusion by name; a name costs nothing while nobody holds or wants it. */
export class KeyedLock {
  readonly #locks = new Map<string, { readonly semaphore: Semaphore; users: number }>();

  /** Waits for its turn at `key`. Aborting `signal` leaves the queue. */
  async acquire(key: string, signal?: AbortSignal): Promise<Disposable> {
    const lock = this.#locks.get(key) ?? { semaphore: new Semaphore(1), users: 0 };
    this.#locks.set(key, lock);
    lock.users++;
    const leave = (): void => {
      if (--lock.users === 0) this.#locks.delete(key);
    };
    let permit: Permit;
    try {
      permit = await lock.semaphore.acquire(signal);
    } catch (error) {
      leave();
      throw error;
    }
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        permit[Symbol.dispose]();
        leave();
      },
    };
  }
}
