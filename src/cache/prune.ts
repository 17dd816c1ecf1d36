import type { Pacer } from '../base/pacer.ts';
import { fileSystemSpace } from '../sys/stat.ts';
import type { CacheCore } from './core.ts';
import { type Filter, parseFilters, usageField } from './filter.ts';
import type { LeafRow, RecordRow } from './records.ts';
import type { PruneOptions, UsageRecord } from './ref.ts';
import type { UsageMeter } from './usage.ts';

export interface PruneParts {
  readonly core: CacheCore;
  readonly meter: UsageMeter;
  readonly pacer: Pacer;
  /** A path on the file system whose free space counts. */
  readonly dir: string;
  /** Replaces the free bytes of the file system, for tests. */
  readonly freeBytes?: () => number;
}

/** With a size cap the ranks are worked out anew after each removal; among more than this after a share of them. */
const RANKED_EACH_TIME = 1000;
const RANK_SHARE = 50;

type Allowed = (row: RecordRow) => boolean;

/** Removes what one rule allows and yields each record when it is gone (FEATURES F12). */
export async function* pruneRule(
  parts: PruneParts,
  rule: PruneOptions,
  signal: AbortSignal | undefined,
): AsyncIterable<UsageRecord> {
  const { meter } = parts;
  const cutOff = rule.keepDurationMs ? Date.now() - rule.keepDurationMs : Number.MAX_SAFE_INTEGER;
  const allowed = ruleFilter(parts, rule, cutOff);
  if (!hasCap(rule)) yield* pruneAll(parts, allowed, cutOff, signal);
  else {
    const total = await meter.total(signal);
    const free = rule.minFreeSpace ? (parts.freeBytes?.() ?? fileSystemSpace(parts.dir).freeBytes) : 0;
    const excess = total - keepBytes(rule, total, free);
    if (excess >= 0) yield* pruneLeastUsed(parts, allowed, cutOff, excess, signal);
  }
}

/** Whatever is allowed, in no set order but children before their parents. */
async function* pruneAll(
  parts: PruneParts,
  allowed: Allowed,
  cutOff: number,
  signal: AbortSignal | undefined,
): AsyncIterable<UsageRecord> {
  const pace = parts.pacer.start();
  for (const page of parts.core.parts.table.leafPages(cutOff)) {
    for (const leaf of page) {
      // What loses its last child to a removal may go at once.
      const open = [leaf.id];
      for (let id = open.pop(); id !== undefined; id = open.pop()) {
        const record = await removeIf(parts, id, allowed, signal);
        if (record) {
          open.push(...record.parents);
          yield record;
        }
        await pace.turn(signal);
      }
    }
    await pace.turn(signal);
  }
}

/** Least used first, until less than `excess` bytes more than wanted are left. */
async function* pruneLeastUsed(
  parts: PruneParts,
  allowed: Allowed,
  cutOff: number,
  excess: number,
  signal: AbortSignal | undefined,
): AsyncIterable<UsageRecord> {
  const { table } = parts.core.parts;
  const pace = parts.pacer.start();
  const candidates = new Map<string, LeafRow>();
  const consider = (row: RecordRow | undefined): void => {
    if (row && allowed(row) && !table.hasChildren(row.id)) candidates.set(row.id, leafOf(row));
  };
  for (const page of table.leafPages(cutOff)) {
    for (const { id } of page) consider(table.get(id));
    await pace.turn(signal);
  }
  let left = excess;
  while (candidates.size > 0) {
    const count = candidates.size;
    const batch = byUse([...candidates.values()]).slice(
      0,
      count > RANKED_EACH_TIME ? Math.ceil(count / RANK_SHARE) : 1,
    );
    for (const { id } of batch) {
      if (left < 0) return;
      candidates.delete(id);
      const record = await removeIf(parts, id, allowed, signal);
      if (record) {
        left -= record.size;
        for (const parent of record.parents) consider(table.get(parent));
        yield record;
      }
      await pace.turn(signal);
    }
  }
}

const leafOf = ({ id, last_used_at, usage_count }: RecordRow): LeafRow => ({ id, last_used_at, usage_count });

/** undefined when the record is in use, or not allowed to go, by the time its size is known. */
async function removeIf(
  { core, meter }: PruneParts,
  id: string,
  allowed: Allowed,
  signal: AbortSignal | undefined,
): Promise<UsageRecord | undefined> {
  const { table } = core.parts;
  const removable = (): RecordRow | undefined => {
    const row = table.get(id);
    return row && allowed(row) && !table.hasChildren(id) ? row : undefined;
  };
  let row = removable();
  if (row && row.size === null) {
    await meter.size(row, signal);
    signal?.throwIfAborted();
    row = removable();
  }
  if (!row) return undefined;
  const record = meter.describe(row);
  core.removeRow(id);
  return record;
}

function ruleFilter({ core, meter }: PruneParts, rule: PruneOptions, cutOff: number): Allowed {
  const filter: Filter = parseFilters(rule.filters ?? [], 'prune');
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
export function byUse<Row extends LeafRow>(rows: readonly Row[]): Row[] {
  const recency = ranks(rows.map((row) => row.last_used_at ?? 0));
  const frequency = ranks(rows.map((row) => row.usage_count));
  // Typed arrays sort a hundred thousand numbers in some ten milliseconds: weight and place as one number.
  const order = new Float64Array(rows.length);
  for (let i = 0; i < rows.length; i++)
    order[i] = Math.floor(((recency[i]! + frequency[i]!) / 2) * WEIGHT_STEPS) * PLACES + i;
  order.sort();
  return Array.from(order, (value) => rows[value % PLACES]!);
}

const WEIGHT_STEPS = 2 ** 26;
const PLACES = 2 ** 26;

/** Position of each value among the different values, between 0 and 1. */
function ranks(values: readonly number[]): Float64Array {
  const sorted = new Float64Array(values).sort();
  const place = new Map<number, number>();
  for (const value of sorted) if (!place.has(value)) place.set(value, place.size + 1);
  return Float64Array.from(values, (value) => place.get(value)! / place.size);
}
