import type { PruneParts } from './prune.ts';
import type { RecordRow } from './records.ts';
import type { UsageRecord } from './ref.ts';

/**
 * Removes records that nobody uses, least recently used first, of whatever type, for as long as the caller goes on:
 * for when the disk is about to be full.
 */
export async function* evictLeastRecent(
  { core, meter, pacer }: Pick<PruneParts, 'core' | 'meter' | 'pacer'>,
  signal?: AbortSignal,
): AsyncIterable<UsageRecord> {
  const { table } = core.parts;
  const free = (id: string): RecordRow | undefined => {
    const row = table.get(id);
    return row && !core.isLive(id) && !meter.isDuplicate(row) && !table.hasChildren(id) ? row : undefined;
  };
  const pace = pacer.start();
  for (const page of table.leastRecentPages())
    for (const { id, last_used_at } of page) {
      const open = [id];
      for (let next = open.pop(); next !== undefined; next = open.pop()) {
        const row = free(next);
        // What lost its last child to this is older than the rest, or comes later by itself.
        if (!row || (row.last_used_at ?? 0) > (last_used_at ?? 0)) continue;
        if (row.size === null) await meter.size(row, signal);
        const known = free(next);
        if (!known) continue;
        const record = meter.describe(known);
        core.removeRow(next);
        open.push(...record.parents);
        yield record;
        await pace.turn(signal);
      }
    }
}
