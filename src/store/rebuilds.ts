import type { Logger } from '../base/log.ts';
import type { JobRunner } from '../pool/types.ts';
import { asideOf, type Database } from './database.ts';
import type { StoreJobs } from './jobs.ts';
import type { Salvaged } from './salvage.ts';

export interface RebuildsOptions {
  readonly db: Database;
  readonly jobs: JobRunner<StoreJobs>;
  readonly log: Logger;
}

/** Says aloud when the database was damaged, and looks for damage that nobody has come across yet. */
export class Rebuilds {
  readonly #options: RebuildsOptions;
  readonly #stop = new AbortController();
  #checking: Promise<void> | undefined;
  #done = false;
  #listener: (() => void) | undefined;

  /** @param salvaged when that was so already as it was opened */
  constructor(options: RebuildsOptions, salvaged: Salvaged | undefined) {
    this.#options = options;
    options.db.onRebuilt = (found) => this.#rebuilt(found);
    if (salvaged) this.#rebuilt(salvaged);
  }

  #rebuilt({ rows, damaged }: Salvaged): void {
    const path = asideOf(this.#options.db.path);
    const lost = damaged.includes('*') ? 'everything' : `some of ${damaged.join(', ') || 'an index'}`;
    const message = `the database was damaged: it is put aside, and what can be read of it is kept`;
    this.#options.log.error(message, { path, rows, lost });
    this.#done = true;
    this.#listener?.();
  }

  /** Tells `listener` of every time, and at once of one that was before. */
  tell(listener: () => void): void {
    this.#listener = listener;
    if (this.#done) listener();
  }

  /** Checks a database that was open when its daemon died, in the background. */
  checkLeftOpen(): void {
    if (this.#options.db.wasLeftOpen) this.#checking = this.#check();
  }

  async #check(): Promise<void> {
    const { db, jobs, log } = this.#options;
    const { signal } = this.#stop;
    try {
      const problems = await jobs.run('checkDatabase', { path: db.path, deep: false }, { signal });
      if (problems.length > 0 && db.isOpen) db.rebuild();
    } catch (error) {
      if (!signal.aborted) log.warn('could not check the database', { path: db.path, error });
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#checking;
  }
}
