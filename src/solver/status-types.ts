import type { Digest } from '../base/digest-type.ts';

/** Steps that are shown as one. A weak group gives way to another that the step is in as well. */
export interface ProgressGroup {
  readonly id: string;
  readonly name: string;
  readonly weak: boolean;
}

/** A warning of a step or of the frontend. Texts are UTF-8. */
export interface VertexWarning {
  /** The step it is about; may be one that never ran. */
  readonly vertex: Digest;
  /** 0 and up; frontends use 1. */
  readonly level: number;
  readonly short: Uint8Array;
  readonly detail: readonly Uint8Array[];
  readonly url: string;
  readonly sourceInfo?: SourceInfo;
  readonly ranges: readonly SourceRange[];
}

/** A file that a step came from, for error snippets and warnings (FEATURES D5). */
export interface SourceInfo {
  readonly filename: string;
  readonly data: Uint8Array;
  readonly language: string;
}

/** A part of a file. Lines count from 1, characters from 0. */
export interface SourceRange {
  readonly start: { readonly line: number; readonly character: number };
  readonly end: { readonly line: number; readonly character: number };
}

/** One message of a job's progress stream (FEATURES B23). Times are Unix nanoseconds. */
export interface SolveStatus {
  readonly vertexes: readonly VertexState[];
  readonly statuses: readonly VertexStatusState[];
  readonly logs: readonly VertexLog[];
  readonly warnings: readonly VertexWarning[];
}

/** A step as it is now; what comes later of the same digest takes its place. Times are Unix nanoseconds. */
export interface VertexState {
  readonly digest: Digest;
  readonly inputs: readonly Digest[];
  readonly name: string;
  readonly cached: boolean;
  readonly started?: bigint;
  readonly completed?: bigint;
  /** '' unless it failed. */
  readonly error: string;
  readonly progressGroup?: ProgressGroup;
}

/** A part of a step that counts, a layer that is downloaded for one. Times are Unix nanoseconds. */
export interface VertexStatusState {
  /** Unique within its step. */
  readonly id: string;
  readonly vertex: Digest;
  readonly name: string;
  /** Bytes, unless the name says otherwise; `total` is 0 when unknown. */
  readonly current: number;
  readonly total: number;
  readonly timestamp: bigint;
  readonly started?: bigint;
  readonly completed?: bigint;
}

/** Output of a step: 1 is its standard output, 2 its standard error. */
export interface VertexLog {
  readonly vertex: Digest;
  readonly stream: 1 | 2;
  readonly timestamp: bigint;
  readonly data: Uint8Array;
}
