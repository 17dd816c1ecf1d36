import { BuildHistoryRecord } from '../../pb/control.ts';
import type { Database } from '../../store/database.ts';
import { nanosOf } from '../time-wire.ts';

/**
 * Times are Unix nanoseconds. `completed_at` is null while the build runs; `log` then names the file that its log
 * goes to.
 */
const SCHEMA: readonly string[] = [
  `
CREATE TABLE build_records (
  ref TEXT PRIMARY KEY, created_at INTEGER NOT NULL, completed_at INTEGER,
  pinned INTEGER NOT NULL, log TEXT, record BLOB NOT NULL
);
CREATE INDEX build_records_created ON build_records (created_at, ref);
CREATE INDEX build_records_completed ON build_records (completed_at) WHERE pinned = 0 AND completed_at IS NOT NULL;
CREATE INDEX build_records_running ON build_records (ref) WHERE completed_at IS NULL;
`,
];

const PAGE = 64;

/** Name of the lease that keeps the blobs of a record. */
export function recordLease(ref: string): string {
  return `history_${ref}`;
}

interface Row {
  readonly ref: string;
  /** As text: nanoseconds do not fit into a number. */
  readonly created: string;
  readonly record: Uint8Array;
}

/** What a row says; undefined when it is damaged, which must not hide the others. */
function decoded({ ref, record: bytes }: Pick<Row, 'ref' | 'record'>): BuildHistoryRecord | undefined {
  try {
    const record = BuildHistoryRecord.decode(bytes);
    return record.Ref === ref ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Build records in the database, as their wire messages. */
export class RecordTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
    db.migrate('history', SCHEMA);
  }

  /** The build runs from now on; a former record of the same ref is replaced. */
  start(record: BuildHistoryRecord, log: string): void {
    this.#put(record, log);
  }

  complete(record: BuildHistoryRecord): void {
    this.#put(record, null);
  }

  #put(record: BuildHistoryRecord, log: string | null): void {
    this.#db.run(
      'INSERT OR REPLACE INTO build_records VALUES (?, ?, ?, ?, ?, ?)',
      record.Ref,
      nanosOf(record.CreatedAt),
      record.CompletedAt ? nanosOf(record.CompletedAt) : null,
      record.pinned ? 1 : 0,
      log,
      BuildHistoryRecord.encode(record).finish(),
    );
  }

  /** The record of a finished build. */
  get(ref: string): BuildHistoryRecord | undefined {
    const row = this.#db.get<Pick<Row, 'ref' | 'record'>>(
      'SELECT ref, record FROM build_records WHERE ref = ? AND completed_at IS NOT NULL',
      ref,
    );
    return row && decoded(row);
  }

  has(ref: string): boolean {
    return this.#db.get('SELECT 1 FROM build_records WHERE ref = ?', ref) !== undefined;
  }

  isRunning(ref: string): boolean {
    const running = 'SELECT 1 FROM build_records WHERE ref = ? AND completed_at IS NULL';
    return this.#db.get(running, ref) !== undefined;
  }

  /** Whether a running build writes its log to the file of this name. */
  hasLog(name: string): boolean {
    return (
      this.#db.get('SELECT 1 FROM build_records WHERE completed_at IS NULL AND log = ?', name) !== undefined
    );
  }

  /** Of all rows, readable or not. */
  *refs(): Generator<string> {
    for (let last = ''; ; ) {
      const page = this.#db.all<{ ref: string }>(
        `SELECT ref FROM build_records WHERE ref > ? ORDER BY ref LIMIT ${PAGE}`,
        last,
      );
      for (const { ref } of page) yield ref;
      const end = page.at(-1);
      if (!end || page.length < PAGE) return;
      last = end.ref;
    }
  }

  delete(ref: string): boolean {
    return this.#db.run('DELETE FROM build_records WHERE ref = ?', ref) > 0;
  }

  /** Records of finished builds, the oldest or the newest start first; a page at a time is in memory. */
  *finished(newestFirst = false): Generator<BuildHistoryRecord> {
    const [than, order] = newestFirst ? ['<', 'DESC'] : ['>', 'ASC'];
    let last: { created: bigint; ref: string } | undefined;
    for (;;) {
      const page = this.#db.all<Row>(
        `SELECT ref, CAST(created_at AS TEXT) AS created, record FROM build_records
         WHERE completed_at IS NOT NULL ${last ? `AND (created_at, ref) ${than} (?, ?)` : ''}
         ORDER BY created_at ${order}, ref ${order} LIMIT ${PAGE}`,
        ...(last ? [last.created, last.ref] : []),
      );
      for (const row of page) {
        const record = decoded(row);
        if (record) yield record;
      }
      const end = page.at(-1);
      if (!end || page.length < PAGE) return;
      last = { created: BigInt(end.created), ref: end.ref };
    }
  }

  /** Records of builds that a dead daemon has left, with the names of their logs. */
  interrupted(): { readonly record: BuildHistoryRecord; readonly log: string }[] {
    const rows = this.#db.all<Pick<Row, 'ref' | 'record'> & { log: string }>(
      'SELECT ref, record, log FROM build_records WHERE completed_at IS NULL',
    );
    return rows.flatMap((row) => {
      const record = decoded(row);
      return record ? [{ record, log: row.log }] : [];
    });
  }

  /** Records to be forgotten: not among the `maxEntries` that ended last, and ended before `before`. */
  outdated(maxEntries: number, before: bigint): string[] {
    const rows = this.#db.all<{ ref: string }>(
      `SELECT ref FROM (
         SELECT ref, completed_at FROM build_records WHERE pinned = 0 AND completed_at IS NOT NULL
         ORDER BY completed_at DESC LIMIT -1 OFFSET ?
       ) WHERE completed_at < ?`,
      maxEntries,
      before,
    );
    return rows.map(({ ref }) => ref);
  }
}
