import type { Digest } from '../base/digest.ts';
import type { Counts } from '../pb/check.ts';
import type * as pb from '../pb/control.ts';
import type { ListPage } from '../pb/diskusage.ts';
import type { Timestamp } from '../pb/google/protobuf/timestamp.ts';
import type {
  DiskUsagePage,
  PruneRequest,
  SolveStatus,
  StoreCounts,
  UsageInfo,
  VertexWarning,
} from './types.ts';

/** The daemon's messages as the client's plain data. */
const NANOS = 1_000_000_000n;

function nanos(time: Timestamp | undefined): bigint | undefined {
  return time && time.seconds * NANOS + BigInt(time.nanos);
}

function span(message: { started: Timestamp | undefined; completed: Timestamp | undefined }) {
  const started = nanos(message.started);
  const completed = nanos(message.completed);
  return {
    ...(started === undefined ? {} : { started }),
    ...(completed === undefined ? {} : { completed }),
  };
}

export function statusFromWire(response: pb.StatusResponse): SolveStatus {
  return {
    vertexes: response.vertexes.map((v) => ({
      digest: v.digest as Digest,
      inputs: v.inputs as Digest[],
      name: v.name,
      cached: v.cached,
      error: v.error,
      ...span(v),
      ...(v.progressGroup && { progressGroup: v.progressGroup }),
    })),
    statuses: response.statuses.map((s) => ({
      id: s.ID,
      vertex: s.vertex as Digest,
      name: s.name,
      current: Number(s.current),
      total: Number(s.total),
      timestamp: nanos(s.timestamp) ?? 0n,
      ...span(s),
    })),
    logs: response.logs.map((l) => ({
      vertex: l.vertex as Digest,
      stream: l.stream === 2n ? 2 : 1,
      timestamp: nanos(l.timestamp) ?? 0n,
      data: l.msg,
    })),
    warnings: response.warnings.map(warningFromWire),
  };
}

function warningFromWire(w: pb.VertexWarning): VertexWarning {
  const position = (p: { line: number; character: number } | undefined) => p ?? { line: 0, character: 0 };
  return {
    vertex: w.vertex as Digest,
    level: Number(w.level),
    short: w.short,
    detail: w.detail,
    url: w.url,
    ...(w.info && { sourceInfo: w.info }),
    ranges: w.ranges.map((r) => ({ start: position(r.start), end: position(r.end) })),
  };
}

export function usageFromWire(record: pb.UsageRecord): UsageInfo {
  return {
    id: record.ID,
    mutable: record.Mutable,
    inUse: record.InUse,
    size: Number(record.Size),
    createdAt: nanos(record.CreatedAt) ?? 0n,
    lastUsedAt: nanos(record.LastUsedAt),
    usageCount: Number(record.UsageCount),
    parents: record.Parents,
    description: record.Description,
    recordType: record.RecordType,
    shared: record.Shared,
  };
}

/** As `du` lists them: smallest first. */
export function bySize(a: UsageInfo, b: UsageInfo): number {
  return a.size - b.size || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

export function usagePageFromWire({ records, holders, disk }: ListPage): DiskUsagePage {
  return {
    records: records.map(usageFromWire),
    holders: new Map(holders.map(({ record, reasons }) => [record, reasons])),
    disk: disk && { total: Number(disk.total), records: Number(disk.records) },
  };
}

export function pruneToWire(request: PruneRequest): pb.PruneRequest {
  return {
    filter: [...(request.filters ?? [])],
    all: request.all ?? false,
    keepDuration: request.keepDuration ?? 0n,
    reservedSpace: BigInt(Math.trunc(request.reservedSpace ?? 0)),
    maxUsedSpace: BigInt(Math.trunc(request.maxUsedSpace ?? 0)),
    minFreeSpace: BigInt(Math.trunc(request.minFreeSpace ?? 0)),
  };
}

export function countsFromWire(counts: Counts): StoreCounts {
  return {
    records: Number(counts.records),
    keys: Number(counts.keys),
    leases: Number(counts.leases),
    snapshots: Number(counts.snapshots),
    blobs: Number(counts.blobs),
    trash: Number(counts.trash),
    temporary: Number(counts.temporary),
  };
}
