import type { Digest } from '../base/digest.ts';
import type { ProgressGroup, VertexWarning, VertexState } from './status-types.ts';

/** What is told of a build while it runs. */
export type {
  ProgressGroup,
  SolveStatus,
  SourceInfo,
  SourceRange,
  VertexLog,
  VertexState,
  VertexStatusState,
  VertexWarning,
} from './status-types.ts';

/** One content-addressed step of the graph. `Spec` is what `resolveOp` needs to make it run. */
export interface Vertex<Spec> {
  readonly digest: Digest;
  /** Keeps vertexes of one digest apart that may give different results: their cache keys tell them apart, too. */
  readonly variant?: string;
  /** Shown to users. */
  readonly name: string;
  readonly inputs: readonly EdgeRef<Spec>[];
  readonly options: VertexOptions;
  readonly spec: Spec;
}

/** Output `index` of a vertex. */
export interface EdgeRef<Spec> {
  readonly vertex: Vertex<Spec>;
  readonly index: number;
}

export interface VertexOptions {
  readonly ignoreCache: boolean;
  readonly description: Readonly<Record<string, string>>;
  readonly exportCache?: boolean;
  readonly progressGroup?: ProgressGroup;
}

/** A result the solver can hold: counted by clone and release. Releasing twice is a bug. */
export interface Result {
  clone(): Result;
  release(): Promise<void>;
}

/** How a step is identified (FEATURES E2). */
export interface CacheMap<R> {
  readonly digest: Digest;
  /** One per input, in order. */
  readonly deps: readonly CacheDep<R>[];
  /** What a source has resolved to (a digest, a commit); for people, no part of the identity. */
  readonly pin?: string;
}

export interface CacheDep<R> {
  /** Narrows the input that matters; part of the link in the cache graph. '' when absent. */
  readonly selector?: string;
  /** Digest of the input's content, when the step depends on content rather than on its history. */
  readonly contentKey?: (input: R, context: OpContext) => Promise<Digest>;
  /** Runs on the input's result before contentKey or exec (makes a lazy snapshot local). */
  readonly preprocess?: (input: R, context: OpContext) => Promise<void>;
}

/** A runnable step. Shared by every job that contains its vertex. */
export interface Op<R> {
  /** The `index`-th cache map; only vertices without inputs may have more than one (`done` false). */
  cacheMap(index: number, context: OpContext): Promise<{ map: CacheMap<R>; done: boolean }>;
  /** Runs it. One entry per output; null is the empty (scratch) result. Inputs stay the caller's. */
  exec(inputs: readonly (R | null)[], context: OpContext): Promise<readonly (R | null)[]>;
  /** Takes a place for `exec` (max-parallelism). */
  acquire?(place: PlaceRequest): Promise<Disposable>;
}

/**
 * Solves another graph for a step while it runs; the caller owns the value, null is the empty tree. Jobs that want
 * the step see that graph as well. @throws when the graph waits for the step itself.
 */
export type SolveFor<Spec, R> = (edge: EdgeRef<Spec>) => Promise<R | null>;

/** What a step that failed leaves, for its jobs to look into. Counts as the solver's once it has been kept. */
export interface Leftover {
  release(): Promise<void>;
}

/** What a running op may use. */
export interface OpContext {
  /** Aborts when no job wants the step any more. */
  readonly signal: AbortSignal;
  readonly progress: VertexProgress;
  /** Ids of the sessions of all jobs that want this step now; grows as jobs join. */
  readonly sessions: () => readonly string[];
  /** The vertex that runs. */
  readonly vertex: Digest;
  /** Takes over what the step leaves as it fails; undefined when no job asks for that. */
  readonly keeper?: () => ((left: Leftover) => void) | undefined;
}

/** A step that wants to run. */
export interface PlaceRequest {
  readonly signal: AbortSignal;
  /** The jobs that hold the step now. */
  readonly owners: () => readonly StepOwner[];
}

/** A job as one of those that share the places for running steps. */
export interface StepOwner {
  readonly id: string;
  /** Steps that run at once for this job; absent for no limit. */
  readonly maxParallelism?: number;
}

/** How one vertex of a job went: what it was looked up by, and what came of it. */
export interface VertexTrace<Spec> {
  readonly vertex: Vertex<Spec>;
  readonly state: VertexState;
  /** It was made, or began to be. */
  readonly ran: boolean;
  readonly maps: readonly Pick<CacheMap<never>, 'digest' | 'pin'>[];
  /** Digest of each input's content, where it was asked for. */
  readonly contents: readonly (Digest | undefined)[];
  /** Where its outputs stand in the cache graph. */
  readonly keys: readonly string[];
  /** Those by which steps on top of it may be found. */
  readonly matches: readonly string[];
  /** Why a record that was found is of no use. */
  readonly lost: string | undefined;
}

/** Where a running step reports. All times are taken when called. */
export interface VertexProgress {
  log(stream: 1 | 2, data: Uint8Array): void;
  /** Opens or updates sub-status `id`; sizes in bytes unless the id says otherwise. */
  status(id: string, update: StatusUpdate): void;
  warn(warning: VertexWarning): void;
}

export interface StatusUpdate {
  readonly name?: string;
  readonly current?: number;
  readonly total?: number;
  /** True once: the sub-status is complete. */
  readonly done?: boolean;
}
