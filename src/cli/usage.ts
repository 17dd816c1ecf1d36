import { timeText } from '../client/progress/rawjson.ts';
import type { DiskUsagePage, UsageInfo } from '../client/types.ts';
import { bytesText } from '../client/units.ts';

/** Cache records as `du` and `prune` show them (FEATURES L15, L16). */
export const USAGE_HEADER = 'ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n';

export function usageRow(record: UsageInfo): string {
  const id = record.mutable ? `${record.id}*` : record.id;
  const size = bytesText(record.size) + (record.shared ? '*' : '');
  return `${id.padEnd(71)}\t${String(!record.inUse).padEnd(11)}\t${size}\t\n`;
}

/** @param holders why it cannot be reclaimed, as far as the daemon says so */
export function usageBlock(record: UsageInfo, holders: readonly string[] = []): string {
  const rows: [string, unknown][] = [['ID', record.id]];
  if (record.parents.length > 0) rows.push(['Parents', record.parents.join(';')]);
  rows.push(
    ['Created at', goTime(record.createdAt)],
    ['Mutable', record.mutable],
    ['Reclaimable', !record.inUse],
    ...holders.map((reason): [string, unknown] => ['Kept', reason]),
    ['Shared', record.shared],
    ['Size', bytesText(record.size)],
  );
  if (record.description !== '') rows.push(['Description', record.description]);
  rows.push(['Usage count', record.usageCount]);
  if (record.lastUsedAt !== undefined) rows.push(['Last used', goTime(record.lastUsedAt)]);
  if (record.recordType !== '') rows.push(['Type', record.recordType]);
  return `${rows.map(([key, value]) => `${key}:\t${value}\n`).join('')}\n`;
}

/** @param disk what the daemon's disk holds in all, where it says so */
export function usageSummary(records: readonly UsageInfo[], disk?: DiskUsagePage['disk']): string {
  const sum = (list: readonly UsageInfo[]): number => list.reduce((total, r) => total + r.size, 0);
  const sized = records.filter((r) => r.size > 0);
  const total = sum(sized);
  const shared = sum(records.filter((r) => r.shared));
  const lines = shared > 0 ? [['Shared', shared] as const, ['Private', total - shared] as const] : [];
  const all = disk
    ? [['Metadata', Math.max(0, disk.total - total)] as const, ['On disk', disk.total] as const]
    : [];
  const reclaimable = sum(sized.filter((r) => !r.inUse));
  return [...lines, ['Reclaimable', reclaimable] as const, ['Total', total] as const, ...all]
    .map(([name, size]) => `${name}:\t${bytesText(size)}\n`)
    .join('');
}

/** With upstream's JSON keys. */
export function usageJson(record: UsageInfo) {
  return {
    id: record.id,
    mutable: record.mutable,
    inUse: record.inUse,
    size: record.size,
    createdAt: timeText(record.createdAt),
    lastUsedAt: timeText(record.lastUsedAt) ?? null,
    usageCount: record.usageCount,
    parents: record.parents.length > 0 ? record.parents : null,
    description: record.description,
    recordType: record.recordType,
    shared: record.shared,
  };
}

/** `2006-01-02 15:04:05.999999999 +0000 UTC` */
function goTime(nanos: bigint): string {
  return `${timeText(nanos)!.replace('T', ' ').replace('Z', '')} +0000 UTC`;
}
