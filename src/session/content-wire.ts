import { isDigest } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { Info, Status } from '../pb/content.ts';
import type { Timestamp } from '../pb/google/protobuf/timestamp.ts';
import type { RemoteBlobInfo, RemoteIngest } from './content.ts';

export function timestampOf(date: Date): Timestamp {
  const ms = date.getTime();
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1_000_000 };
}

export function dateOf(time: Timestamp | undefined): Date {
  return new Date(time ? Number(time.seconds) * 1000 + Math.floor(time.nanos / 1_000_000) : 0);
}

export function infoToWire(info: RemoteBlobInfo): Info {
  return {
    digest: info.digest,
    size: BigInt(info.size),
    createdAt: timestampOf(info.createdAt),
    updatedAt: timestampOf(info.updatedAt),
    labels: { ...info.labels },
  };
}

export function infoFromWire(info: Info | undefined): RemoteBlobInfo {
  if (!info || !isDigest(info.digest))
    throw new BuildError(`invalid content info: ${info?.digest ?? 'none'}`, { code: Code.internal });
  return {
    digest: info.digest,
    size: Number(info.size),
    createdAt: dateOf(info.createdAt),
    updatedAt: dateOf(info.updatedAt),
    labels: info.labels,
  };
}

export function statusToWire(ingest: RemoteIngest): Status {
  return {
    ref: ingest.ref,
    offset: BigInt(ingest.offset),
    total: BigInt(ingest.total),
    expected: '',
    startedAt: timestampOf(ingest.startedAt),
    updatedAt: timestampOf(ingest.updatedAt),
  };
}

export function statusFromWire(status: Status): RemoteIngest {
  return {
    ref: status.ref,
    offset: Number(status.offset),
    total: Number(status.total),
    startedAt: dateOf(status.startedAt),
    updatedAt: dateOf(status.updatedAt),
  };
}
