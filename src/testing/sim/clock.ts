/** Turns of the event loop without any event after which nothing can happen any more. */
const IDLE_TURNS = 50;
/** Turns that no scenario needs: something goes round in circles. */
const MAX_TURNS = 20_000;

/**
 * Time as turns of the event loop. With nothing but promises and immediates in play, what happens in which order
 * follows from the seed alone, and a hang is a fact: no timer is left and nothing settles.
 */
export class Clock {
  #now = 0;
  readonly #due = new Map<number, (() => void)[]>();

  get now(): number {
    return this.#now;
  }

  at(tick: number, action: () => void): void {
    const when = Math.max(tick, this.#now + 1);
    const actions = this.#due.get(when);
    if (actions) actions.push(action);
    else this.#due.set(when, [action]);
  }

  sleep(ticks: number): Promise<void> {
    return ticks === 0 ? Promise.resolve() : new Promise((resolve) => this.at(this.#now + ticks, resolve));
  }

  /** Lets time pass until `work` settles; `onTurn` looks at each turn. @throws when it never will */
  async run<T>(work: Promise<T>, onTurn: () => void = () => {}): Promise<T> {
    let settled = false;
    const end = (): void => {
      settled = true;
    };
    work.then(end, end);
    for (let turns = 0, idle = 0; !settled; turns++) {
      await this.turn();
      onTurn();
      idle = this.#due.size > 0 ? 0 : idle + 1;
      if (idle > IDLE_TURNS) throw new Error('hangs: nothing is left that could happen');
      if (turns > MAX_TURNS) throw new Error(`does not end within ${MAX_TURNS} turns`);
    }
    return work;
  }

  /** One turn of the event loop, and what is due in it. */
  async turn(): Promise<void> {
    await new Promise(setImmediate);
    this.#now++;
    const actions = this.#due.get(this.#now);
    this.#due.delete(this.#now);
    for (const action of actions ?? []) action();
  }
}
