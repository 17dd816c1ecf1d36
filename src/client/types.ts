import type { Duplex } from 'node:stream';
import type { BuildExplanation, Cause, CauseKind, FileChange, StepExplanation } from '../explain/types.ts';
import type {
  ProgressGroup,
  SolveStatus,
  SourceInfo,
  SourceRange,
  VertexLog,
  VertexState,
  VertexStatusState,
  VertexWarning,
} from '../solver/types.ts';

/** What the client speaks in: plain data, none of the wire's messages. */
export type {
  BuildExplanation,
  Cause,
  CauseKind,
  FileChange,
  StepExplanation,
  ProgressGroup,
  SolveStatus,
  SourceInfo,
  SourceRange,
  VertexLog,
  VertexState,
  VertexStatusState,
  VertexWarning,
};

export interface ConnectOptions {
  /** For `tcp://`; without it the connection is not encrypted. */
  readonly tls?: TlsFiles;
  /** Limit of making the connection; default 5 s, 0 = none. */
  readonly timeoutMs?: number;
  /** Makes the byte stream in place of the scheme's own way. */
  readonly dial?: (address: string, signal: AbortSignal) => Promise<Duplex>;
  /** Aborting it gives up connecting. */
  readonly signal?: AbortSignal;
}

/** PEM files. */
export interface TlsFiles {
  /** Name the server's certificate must have; default the address's host. */
  readonly serverName?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface CallOptions {
  /** Aborting it cancels the call at the daemon. */
  readonly signal?: AbortSignal;
}

export interface BuildkitVersion {
  readonly package: string;
  readonly version: string;
  readonly revision: string;
  readonly dockerfileVersion: string;
}

export interface WorkerPlatform {
  readonly architecture: string;
  readonly os: string;
  readonly variant: string;
  readonly osVersion: string;
  readonly osFeatures: readonly string[];
}

export interface WorkerInfo {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly platforms: readonly WorkerPlatform[];
  readonly gcPolicy: readonly GcPolicy[];
  readonly buildkitVersion: BuildkitVersion;
  readonly cdiDevices: readonly CdiDevice[];
}

/** Spaces in bytes, duration in nanoseconds. */
export interface GcPolicy {
  readonly all: boolean;
  readonly filters: readonly string[];
  readonly keepDuration: bigint;
  readonly reservedSpace: number;
  readonly maxUsedSpace: number;
  readonly minFreeSpace: number;
}

export interface CdiDevice {
  readonly name: string;
  readonly autoAllow: boolean;
  readonly annotations: Readonly<Record<string, string>>;
  readonly onDemand: boolean;
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
