import type { Running } from '../base/running.ts';
import type { Leftover } from './types.ts';

/** Failed steps of all jobs together whose trees are kept. Above that the oldest ones go. */
export const MAX_LEFTOVERS = 100;

interface LeavingVertex {
  readonly owners: ReadonlySet<{ readonly looksIntoFailures: boolean }>;
}

/** What failed steps left, by the vertex that failed: kept until that has no owner any more. */
export class Leftovers {
  readonly #kept = new Map<object, Leftover>();
  readonly #running: Running;

  constructor(running: Running) {
    this.#running = running;
  }

  of(vertex: object): Leftover | undefined {
    return this.#kept.get(vertex);
  }

  /** Takes over what `vertex` leaves; undefined when none of its owners would look into it. */
  keeper(vertex: LeavingVertex): ((left: Leftover) => void) | undefined {
    const asked = [...vertex.owners].some(({ looksIntoFailures }) => looksIntoFailures);
    return asked ? (left) => this.#keep(vertex, left) : undefined;
  }

  #keep(vertex: LeavingVertex, left: Leftover): void {
    if (vertex.owners.size === 0) {
      this.#letGo(left); // its last job has closed meanwhile
      return;
    }
    const before = this.#kept.get(vertex);
    this.#kept.delete(vertex);
    this.#kept.set(vertex, left);
    if (before) this.#letGo(before);
    for (const [oldest, its] of this.#kept) {
      if (this.#kept.size <= MAX_LEFTOVERS) break;
      this.#kept.delete(oldest);
      this.#letGo(its);
    }
  }

  async drop(vertex: object): Promise<void> {
    const left = this.#kept.get(vertex);
    this.#kept.delete(vertex);
    await left?.release();
  }

  async dropAll(): Promise<boolean> {
    const all = [...this.#kept.values()];
    this.#kept.clear();
    await Promise.all(all.map((left) => left.release()));
    return all.length > 0;
  }

  #letGo(left: Leftover): void {
    this.#running.track(left.release()).catch(() => {}); // whoever held it has failed already
  }
}
