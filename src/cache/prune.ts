import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileSystemSpace } from '../sys/stat.ts';
import type { CacheCore } from './core.ts';
import { type Filter, parseFilters, usageField } from './filter.ts';
import type { RecordRow } from './records.ts';
import type { PruneOptions, UsageRecord } from './ref.ts';
import type { UsageMeter } from './usage.ts';

export interface PruneParts {
  readonly core: CacheCore;
  readonly meter: UsageMeter;
  /** A path on the file system whose free space counts. */
  readonly dir: string;
  /** Replaces the free bytes of the file system, for tests. */
  readonly freeBytes?: () => number;
}

/** With a size cap the ranks are worked out anew after each removal, for large stores after each such share. */
const RANK_SHARE = 1000;

/** Removes what one rule allows and yields each record when it is gone (FEATURES F12). */
export async function* pruneRule(
  parts: PruneParts,
  rule: PruneOptions,
  signal: AbortSignal | undefined,
): AsyncIterable<UsageRecord> {
  const { core, meter } = parts;
  const allowed = ruleFilter(parts, rule);
  let total = hasCap(rule) ? await totalSize(meter, signal) : 0;
  const free = rule.minFreeSpace ? (parts.freeBytes?.() ?? fileSystemSpace(parts.dir).freeBytes) : 0;
  const keep = keepBytes(rule, total, free);
  let candidates = new Map<string, RecordRow>();
  for await (const row of meter.rows(signal))
    if (!core.parts.table.hasChildren(row.id)) candidates.set(row.id, row);
  for (;;) {
    const ready = [...candidates.values()].filter(allowed);
    if (keep > 0) ready.splice(0, ready.length, ...byUse(ready));
    const batch = keep > 0 ? Math.ceil(ready.length / RANK_SHARE) : ready.length;
    if (batch === 0) return;
    const parents = new Set<string>();
    for (const row of ready.slice(0, batch)) {
      if (keep > 0 && total < keep) return;
      const size = await meter.size(row, signal);
      signal?.throwIfAborted();
      candidates.delete(row.id);
      const record = meter.describe(row);
      if (!remove(parts, row, allowed)) continue;
      total -= size;
      for (const parent of record.parents) parents.add(parent);
      yield { ...record, size, inUse: false };
    }
    // Without a cap everything allowed is gone: only what lost its last child is new.
    if (keep === 0) candidates = new Map();
    for (const id of parents) {
      const row = core.parts.table.get(id);
      if (row && !core.parts.table.hasChildren(id) && !meter.isDuplicate(row)) candidates.set(id, row);
    }
    await nextTurn();
  }
}

/** False when the record has come into use, or gone, while its size was measured. */
function remove({ core }: PruneParts, row: RecordRow, allowed: (row: RecordRow) => boolean): boolean {
  const { table } = core.parts;
  if (!table.get(row.id) || table.hasChildren(row.id) || !allowed(row)) return false;
  core.removeRow(row.id);
  return true;
}

function ruleFilter({ core, meter }: PruneParts, rule: PruneOptions): (row: RecordRow) => boolean {
  const filter: Filter = parseFilters(rule.filters ?? [], 'prune');
  const cutOff = rule.keepDurationMs ? Date.now() - rule.keepDurationMs : Number.POSITIVE_INFINITY;
  return (row) => {
    if (core.isLive(row.id) || meter.isDuplicate(row)) return false;
    const record = meter.describe(row);
    if (!rule.all && (record.recordType === 'internal' || record.recordType === 'frontend' || record.shared))
      return false;
    if ((row.last_used_at ?? 0) > cutOff) return false;
    return filter(usageField(record));
  };
}

function hasCap(rule: PruneOptions): boolean {
  return Boolean(rule.maxUsedSpace || rule.reservedSpace || rule.minFreeSpace);
}

async function totalSize(meter: UsageMeter, signal: AbortSignal | undefined): Promise<number> {
  const records = await meter.list(signal ? { signal } : {});
  return records.reduce((sum, record) => sum + (record.shared ? 0 : record.size), 0);
}

/** Bytes to stay above; 0 means that the rule has no cap. */
export function keepBytes(rule: PruneOptions, total: number, free: number): number {
  if (!hasCap(rule)) return 0;
  let keep = rule.maxUsedSpace ?? 0;
  const excess = (rule.minFreeSpace ?? 0) - free;
  if (rule.minFreeSpace && excess > 0) keep = keep === 0 ? total - excess : Math.min(keep, total - excess);
  // Enough is free and nothing else is asked for: nothing goes.
  else if (rule.minFreeSpace && keep === 0) keep = total + 1;
  // A cap below one byte is still a cap.
  return Math.max(keep, rule.reservedSpace ?? 0, 1);
}

/** Least recently and least often used first: both orders weigh the same. */
export function byUse(rows: readonly RecordRow[]): RecordRow[] {
  const recency = ranks(rows, (row) => row.last_used_at ?? 0);
  const frequency = ranks(rows, (row) => row.usage_count);
  const weight = (row: RecordRow): number => recency(row) + frequency(row);
  return [...rows].sort((a, b) => weight(a) - weight(b));
}

/** Position of a row's value among the different values, between 0 and 1. */
function ranks(rows: readonly RecordRow[], value: (row: RecordRow) => number): (row: RecordRow) => number {
  const values = [...new Set(rows.map(value))].sort((a, b) => a - b);
  const rank = new Map(values.map((v, i) => [v, (i + 1) / values.length]));
  return (row) => rank.get(value(row)) ?? 0;
}
