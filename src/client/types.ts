import type { BuildExplanation, Cause, CauseKind, FileChange, StepExplanation } from '../explain/types.ts';
import type {
  BuildkitVersion,
  CdiDevice,
  GcPolicy,
  WorkerInfo,
  WorkerPlatform,
} from '../gateway/worker-types.ts';
import type {
  ProgressGroup,
  SolveStatus,
  SourceInfo,
  SourceRange,
  VertexLog,
  VertexState,
  VertexStatusState,
  VertexWarning,
} from '../solver/status-types.ts';

/** What the client speaks in: plain data, none of the wire's messages. */
export type {
  BuildExplanation,
  BuildkitVersion,
  Cause,
  CauseKind,
  CdiDevice,
  FileChange,
  GcPolicy,
  StepExplanation,
  ProgressGroup,
  SolveStatus,
  SourceInfo,
  SourceRange,
  VertexLog,
  VertexState,
  VertexStatusState,
  VertexWarning,
  WorkerInfo,
  WorkerPlatform,
};

/** How a connection is made. */
export interface ConnectOptions {
  /** For `tcp://`; without it the connection is not encrypted. */
  readonly tls?: TlsFiles;
  /** Limit of making the connection; default 5 s, 0 = none. */
  readonly timeoutMs?: number;
  /** Makes the byte stream in place of the scheme's own way. */
  readonly dial?: (address: string, signal: AbortSignal) => Promise<ByteStream>;
  /** Aborting it gives up connecting. */
  readonly signal?: AbortSignal;
}

/** Both directions of a connection: a Duplex stream of Node, a socket for one. */
export interface ByteStream extends AsyncIterable<unknown> {
  write(chunk: Uint8Array): boolean;
  end(): unknown;
  destroy(error?: Error): unknown;
}

/** A Writable stream of Node. */
export interface NodeWritable {
  write(chunk: Uint8Array): boolean;
  end(callback?: () => void): unknown;
  destroy(error?: Error): unknown;
}

/** Paths of PEM files, or PEM texts themselves: they hold `-----BEGIN`. */
export interface TlsFiles {
  /** Name the server's certificate must have; default the address's host. */
  readonly serverName?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** Options of every call. */
export interface CallOptions {
  /** Aborting it cancels the call at the daemon. */
  readonly signal?: AbortSignal;
}

/** A cache record (FEATURES B28). Times are Unix nanoseconds. */
export interface UsageInfo {
  readonly id: string;
  readonly mutable: boolean;
  readonly inUse: boolean;
  readonly size: number;
  readonly createdAt: bigint;
  readonly lastUsedAt: bigint | undefined;
  readonly usageCount: number;
  readonly parents: readonly string[];
  readonly description: string;
  readonly recordType: string;
  readonly shared: boolean;
}

/** Some of the records of a disk usage. */
export interface DiskUsagePage {
  readonly records: readonly UsageInfo[];
  /** Why records, by id, cannot be reclaimed. */
  readonly holders: ReadonlyMap<string, readonly string[]>;
  /** In the last page of all records: bytes below the state directory, and what of it belongs to records. */
  readonly disk: { readonly total: number; readonly records: number } | undefined;
}

/** Spaces in bytes, 0 or absent = no limit. */
export interface PruneRequest {
  readonly filters?: readonly string[];
  readonly all?: boolean;
  /** Nanoseconds. */
  readonly keepDuration?: bigint;
  readonly reservedSpace?: number;
  readonly maxUsedSpace?: number;
  readonly minFreeSpace?: number;
}

/** Something that the check of a store has found. */
export interface StoreFinding {
  /** database, record, lease, key, snapshot, blob, index or file. */
  readonly kind: string;
  readonly id: string;
  readonly problem: string;
  /** It wastes space or time, but nothing is lost. */
  readonly leftover: boolean;
  readonly repaired: boolean;
  /** Why it could not be repaired; '' when it was, or was not to be. */
  readonly failure: string;
}

/** How much the check has looked at. */
export interface StoreCounts {
  readonly records: number;
  readonly keys: number;
  readonly leases: number;
  readonly snapshots: number;
  readonly blobs: number;
  /** Files and trees that wait for their deletion. */
  readonly trash: number;
  /** Files that running work has open. */
  readonly temporary: number;
}
