import { setImmediate as nextTurn } from 'node:timers/promises';
import { rowProblem } from '../cache/damage.ts';
import type { RecordRow } from '../cache/records.ts';
import { variantsLease } from '../cache/core.ts';
import type { CheckOptions, CheckParts, Finding } from './finding.ts';
import { ROWS_PER_TURN } from './finding.ts';

/** Rows of records: what they say, what they stand on, what keeps their trees and blobs. */
export async function* checkRecords(parts: CheckParts, { signal }: CheckOptions): AsyncGenerator<Finding> {
  const { core } = parts.refs;
  const { table } = core.parts;
  let looked = 0;
  for (const page of table.pages())
    for (const { id } of page) {
      if (++looked % ROWS_PER_TURN === 0) await nextTurn();
      signal.throwIfAborted();
      // What is in use is looked after by its users; the page may be old by now.
      const row = core.isLive(id) ? undefined : table.get(id);
      const problem = row && recordProblem(parts, row);
      if (problem !== undefined)
        yield { kind: 'record', id, problem, repair: () => core.removeRow(id), ...unfinished(row!) };
      else if (row) yield* checkLease(parts, row);
    }
  yield* checkSatellites(parts);
}

/** A writable tree that nobody holds and nobody wants to keep. */
function unfinished(row: RecordRow): { leftover: true } | undefined {
  return row.mutable === 1 && row.retain === 0 ? { leftover: true } : undefined;
}

function recordProblem({ refs, store }: CheckParts, row: RecordRow): string | undefined {
  const { table } = refs.core.parts;
  const own = rowProblem(row);
  if (own !== undefined) return own;
  const missing = table.parents(row).find((id) => !table.get(id));
  if (missing !== undefined) return `its parent ${missing} is gone`;
  if (row.equal_mutable !== null && !table.get(row.equal_mutable)) return 'the tree it shares is gone';
  if (standsOnItself(table, row)) return 'it stands on itself';
  if (row.mutable === 1 && row.retain === 0) return 'it was never finished';
  const { snapshots } = store;
  if (row.mutable === 1)
    return snapshots.isWhole(row.snapshot, 'active') ? undefined : 'its writable tree is lost';
  if (row.kind !== 'layer' || row.equal_mutable !== null || row.blob !== null) return undefined;
  return snapshots.isWhole(row.snapshot, 'committed') ? undefined : 'its tree is lost and it has no blob';
}

function standsOnItself(table: CheckParts['refs']['core']['parts']['table'], row: RecordRow): boolean {
  // A set is visited in order of insertion, also what is added meanwhile.
  const seen = new Set(table.parents(row));
  for (const id of seen) {
    if (id === row.id) return true;
    const above = table.get(id);
    for (const parent of above ? table.parents(above) : []) seen.add(parent);
  }
  return false;
}

function* checkLease({ refs, store }: CheckParts, row: RecordRow): Generator<Finding> {
  const { core } = refs;
  const { leases } = store;
  const { id } = row;
  if (!leases.get(id)) {
    const problem = 'no lease keeps what it needs';
    yield { kind: 'record', id, problem, repair: () => void core.adopt(row) };
    return;
  }
  const held = new Set(leases.resources(id).map((one) => `${one.kind} ${one.id}`));
  const needed = [
    ...(row.equal_mutable === null ? [{ kind: 'snapshot', id: row.snapshot } as const] : []),
    ...(row.blob === null ? [] : [{ kind: 'content', id: row.blob } as const]),
  ];
  for (const one of needed)
    if (!held.has(`${one.kind} ${one.id}`)) {
      const problem = `its lease does not keep ${one.kind} ${one.id}`;
      yield { kind: 'record', id, problem, repair: () => leases.add(id, one) };
    }
}

const SATELLITES = [
  { table: 'record_values', column: 'record', of: 'records' },
  { table: 'record_sources', column: 'record', of: 'records' },
  { table: 'lease_resources', column: 'lease', of: 'leases' },
] as const;

/** Rows that belong to a row that is gone. */
function* checkSatellites({ store: { db } }: CheckParts): Generator<Finding> {
  for (const { table, column, of } of SATELLITES) {
    const orphans = `FROM ${table} WHERE ${column} NOT IN (SELECT id FROM ${of})`;
    const count = db.get<{ n: number }>(`SELECT count(*) AS n ${orphans}`)?.n ?? 0;
    if (count === 0) continue;
    const problem = `${count} rows belong to ${of} that are gone`;
    yield {
      kind: 'database',
      id: table,
      problem,
      leftover: true,
      repair: () => void db.run(`DELETE ${orphans}`),
    };
  }
}

const RECORD_LEASE = /^[0-9a-f]{32}$/;

/** Leases of records that are gone: nothing would ever end them. */
export async function* checkLeases(parts: CheckParts, { signal }: CheckOptions): AsyncGenerator<Finding> {
  const { leases } = parts.store;
  let looked = 0;
  for (const { id, temporary, flat } of leases.list()) {
    if (++looked % ROWS_PER_TURN === 0) await nextTurn();
    signal.throwIfAborted();
    const record = id.endsWith(variantsLease('')) ? id.slice(0, -variantsLease('').length) : id;
    if (temporary || (record === id && !flat) || !RECORD_LEASE.test(record)) continue;
    if (parts.refs.metadata(record) || !leases.get(id)) continue;
    const problem = `its record ${record} is gone`;
    yield { kind: 'lease', id, problem, leftover: true, repair: () => leases.delete(id) };
  }
}

/** Cache keys whose result is gone. */
export async function* checkKeys(
  { keys, refs }: CheckParts,
  { signal }: CheckOptions,
): AsyncGenerator<Finding> {
  let looked = 0;
  for (const id of keys.resultIds()) {
    if (++looked % ROWS_PER_TURN === 0) await nextTurn();
    signal.throwIfAborted();
    if (refs.metadata(id)) continue;
    const problem = 'cache keys lead to this record, which is gone';
    yield { kind: 'key', id, problem, leftover: true, repair: () => keys.releaseResult(id) };
  }
}
