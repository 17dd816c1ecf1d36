import type { BuildError } from '../base/errors.ts';

/** A blob that is kept of a build: its log, its trace, a result. */
export interface BlobInfo {
  readonly mediaType: string;
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly annotations: Readonly<Record<string, string>>;
}

/** What is kept of a build. */
export interface BuildRecord {
  readonly ref: string;
  readonly frontend: string;
  readonly frontendOptions: Readonly<Record<string, string>>;
  readonly exports: readonly { readonly type: string; readonly attrs: Readonly<Record<string, string>> }[];
  /** Why it failed; absent of one that did not, or runs. */
  readonly error?: BuildError;
  readonly createdAt: Date | undefined;
  /** undefined as long as it runs. */
  readonly completedAt: Date | undefined;
  readonly pinned: boolean;
  readonly steps: { readonly total: number; readonly completed: number; readonly cached: number };
  readonly warnings: number;
  readonly exporterResponse: Readonly<Record<string, string>>;
  /** Grows with every change of the record. */
  readonly generation: number;
  readonly log?: BlobInfo;
  /** Is made when the record is finalized. */
  readonly trace?: BlobInfo;
  /** Results and attestations, by the id of the platform; '' for builds of one. */
  readonly results: Readonly<Record<string, BuildRecordResult>>;
}

/** What a build has made for one platform. */
export interface BuildRecordResult {
  readonly results: readonly BlobInfo[];
  readonly attestations: readonly BlobInfo[];
}

/** A build has begun, has ended or has changed, or its record is gone. */
export interface HistoryEvent {
  readonly type: 'started' | 'complete' | 'deleted';
  readonly record: BuildRecord;
}

/** Which records are wanted. */
export interface HistoryRequest {
  readonly ref?: string;
  /** Only builds that run. */
  readonly activeOnly?: boolean;
  /** Go on with what changes, without end. Default: the records that there are. */
  readonly follow?: boolean;
  /** As `buildctl debug histories --filter` of newer daemons takes them: `status==error`, … */
  readonly filters?: readonly string[];
  /** At most so many records, the latest; 0 = all. */
  readonly limit?: number;
}

/** What to do with a record. */
export interface HistoryUpdate {
  /** Keep it whatever garbage collection says, or no longer. */
  readonly pinned?: boolean;
  readonly delete?: boolean;
  /** Write down what is only made when somebody asks: the trace. */
  readonly finalize?: boolean;
}
