import { setImmediate as nextTurn } from 'node:timers/promises';
import { SharedTask } from '../base/shared-task.ts';
import type { JobRunner } from '../pool/types.ts';
import type { DiskUse } from './disk-use.ts';
import type { StoreJobs } from './jobs.ts';
import type { Store } from './store.ts';

/** Sizes written to the database in one go. */
const BATCH = 256;

/** Measures what the store takes of its disk, in a worker, once for all who ask meanwhile. */
export class DiskMeter {
  readonly #base: string;
  readonly #store: Pick<Store, 'layout' | 'db' | 'snapshots'>;
  readonly #jobs: JobRunner<StoreJobs>;
  #task: SharedTask<DiskUse> | undefined;

  constructor(base: string, store: Pick<Store, 'layout' | 'db' | 'snapshots'>, jobs: JobRunner<StoreJobs>) {
    this.#base = base;
    this.#store = store;
    this.#jobs = jobs;
  }

  async measure(signal?: AbortSignal): Promise<DiskUse> {
    if (!this.#task) {
      const task = new SharedTask((own) =>
        this.#measure(own).finally(() => {
          if (this.#task === task) this.#task = undefined;
        }),
      );
      this.#task = task;
    }
    return await this.#task.join(signal);
  }

  async #measure(signal: AbortSignal): Promise<DiskUse> {
    const { database, content, snapshots } = this.#store.layout;
    const use = await this.#jobs.run(
      'diskUse',
      { base: this.#base, database, content, snapshots },
      { signal },
    );
    for (let at = 0; at < use.measured.length && this.#store.db.isOpen; at += BATCH) {
      this.#store.snapshots.rows.setUsage(use.measured.slice(at, at + BATCH));
      await nextTurn();
    }
    return use;
  }
}
