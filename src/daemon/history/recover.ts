import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../base/errors.ts';
import type { BuildHistoryRecord } from '../../pb/control.ts';
import { nowNanos } from '../../solver/progress.ts';
import type { ContentStore } from '../../store/content.ts';
import type { Database } from '../../store/database.ts';
import type { LeaseStore } from '../../store/lease.ts';
import { timestampOfNanos } from '../time-wire.ts';
import { recoverLog } from './build-log.ts';
import { type RecordTable, recordLease } from './record-table.ts';

export interface Leftovers {
  readonly db: Database;
  readonly table: RecordTable;
  readonly content: ContentStore;
  readonly leases: LeaseStore;
  /** Logs of running builds lie here. */
  readonly dir: string;
}

/** At start: drops leases and logs that no record knows. @returns the records that a dead daemon left open */
export function dropOrphans({ db, table, leases, dir }: Leftovers): ReturnType<RecordTable['interrupted']> {
  const prefix = recordLease('');
  const orphans = db.all<{ id: string }>(
    `SELECT id FROM leases WHERE id BETWEEN ?1 AND ?1 || char(1114111)
     AND substr(id, length(?1) + 1) NOT IN (SELECT ref FROM build_records)`,
    prefix,
  );
  if (orphans.length > 0) db.transaction(() => orphans.forEach(({ id }) => void leases.delete(id)));
  const open = table.interrupted();
  const logs = new Set(open.map(({ log }) => log));
  for (const name of readdirSync(dir)) if (!logs.has(name)) rmSync(join(dir, name), { force: true });
  return open;
}

/** The closed record of a build that ended with its daemon: an error, and the log as far as it was written. */
export async function closedRecord(
  { record, log }: { readonly record: BuildHistoryRecord; readonly log: string },
  { content, dir }: Leftovers,
): Promise<BuildHistoryRecord> {
  const { logs, counts, endedAt } = await recoverLog(join(dir, log), content, recordLease(record.Ref));
  return {
    ...record,
    ...counts,
    logs,
    error: { code: Code.unknown, message: 'the daemon ended before the build did', details: [] },
    CompletedAt: timestampOfNanos(
      endedAt === undefined ? nowNanos() : BigInt(Math.round(endedAt)) * 1_000_000n,
    ),
  };
}
