import type { PruneOptions, UsageRecord } from '../cache/ref.ts';
import type * as pb from '../pb/control.ts';
import { timestampOfDate } from './time-wire.ts';

const NANOS_PER_MS = 1_000_000n;

export function usageToWire(record: UsageRecord): pb.UsageRecord {
  return {
    ID: record.id,
    Mutable: record.mutable,
    InUse: record.inUse,
    Size: BigInt(record.size),
    Parent: '',
    CreatedAt: timestampOfDate(record.createdAt),
    LastUsedAt: record.lastUsedAt && timestampOfDate(record.lastUsedAt),
    UsageCount: BigInt(record.usageCount),
    Description: record.description,
    RecordType: record.recordType,
    Shared: record.shared,
    Parents: [...record.parents],
  };
}

export function pruneFromWire(request: pb.PruneRequest): PruneOptions {
  return {
    filters: request.filter,
    all: request.all,
    keepDurationMs: Number(request.keepDuration / NANOS_PER_MS),
    reservedSpace: Number(request.reservedSpace),
    maxUsedSpace: Number(request.maxUsedSpace),
    minFreeSpace: Number(request.minFreeSpace),
  };
}
