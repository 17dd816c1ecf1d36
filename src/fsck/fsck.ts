import { readdir } from 'node:fs/promises';
import { BuildError } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import { checkBlobs, checkIndexes, checkSnapshots } from './files.ts';
import type { Check, CheckOptions, CheckParts, Finding, FindingKind } from './finding.ts';
import { checkKeys, checkLeases, checkRecords } from './records.ts';

/** How often all is looked at again after repairs: what goes may leave others without what they stand on. */
const MAX_PASSES = 8;

/** What was found, and what came of it. */
export interface Report {
  readonly kind: FindingKind;
  readonly id: string;
  readonly problem: string;
  readonly leftover: boolean;
  readonly repaired: boolean;
  /** Why it could not be repaired. */
  readonly failure: string | undefined;
}

export interface StoreCounts {
  readonly records: number;
  readonly keys: number;
  readonly leases: number;
  readonly snapshots: number;
  readonly blobs: number;
  /** Files and trees that wait for their deletion. */
  readonly trash: number;
  /** Files that running work has open. */
  readonly temporary: number;
}

export interface FsckOptions extends CheckOptions {
  readonly repair: boolean;
}

/** In this order, after that of the database: what one repairs, those after it need not. */
const CHECKS: readonly Check[] = [
  checkRecords,
  checkLeases,
  checkKeys,
  checkSnapshots,
  checkBlobs,
  checkIndexes,
];

/** Looks at all that the store holds while builds go on, and mends it when asked to. One run at a time. */
export class Fsck {
  readonly #parts: CheckParts;
  readonly #turn = new Semaphore(1);
  /** Of rooms that this one knows nothing of. */
  readonly #more: Check[] = [];

  constructor(parts: CheckParts) {
    this.#parts = parts;
  }

  /** One more kind of thing to look at, before the blobs that it keeps. */
  add(check: Check): void {
    this.#more.push(check);
  }

  async *run(options: FsckOptions): AsyncGenerator<Report, StoreCounts> {
    using _alone = await this.#turn.acquire(options.signal);
    const seen = new Set<string>();
    for (let pass = 0; pass < MAX_PASSES; pass++) {
      let repaired = 0;
      for (const check of [checkDatabase, ...this.#more, ...CHECKS])
        for await (const finding of check(this.#parts, options)) {
          const key = `${finding.kind} ${finding.id} ${finding.problem}`;
          if (seen.has(key)) continue;
          seen.add(key);
          const report = await mend(finding, options);
          if (report.repaired) repaired++;
          yield report;
        }
      if (repaired === 0) break;
      await this.#parts.store.gc();
    }
    return await this.#counts();
  }

  async #counts(): Promise<StoreCounts> {
    const { db, layout } = this.#parts.store;
    const count = (table: string): number =>
      db.get<{ n: number }>(`SELECT count(*) AS n FROM ${table}`)?.n ?? 0;
    const names = (dir: string): Promise<string[]> => readdir(dir).catch(() => []);
    return {
      records: count('records'),
      keys: count('key_records'),
      leases: count('leases'),
      snapshots: count('snapshots'),
      blobs: count('blobs'),
      trash: (await names(layout.trash)).length,
      temporary: (await names(layout.tmp)).length,
    };
  }
}

async function mend(finding: Finding, { repair }: FsckOptions): Promise<Report> {
  const { kind, id, problem, leftover = false } = finding;
  const report = { kind, id, problem, leftover, repaired: false, failure: undefined };
  if (!repair) return report;
  try {
    await finding.repair();
    return { ...report, repaired: true };
  } catch (error) {
    return { ...report, failure: BuildError.from(error).message };
  }
}

/** The database file by SQLite's own check, in a worker thread. */
async function* checkDatabase(
  { store }: CheckParts,
  { deep, signal }: CheckOptions,
): AsyncGenerator<Finding> {
  const { path } = store.db;
  const problems = await store.jobs.run('checkDatabase', { path, deep }, { signal });
  for (const problem of problems)
    yield { kind: 'database', id: path, problem, repair: () => void store.db.rebuild() };
}
