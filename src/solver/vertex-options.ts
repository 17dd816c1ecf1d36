import type { BuildError } from '../base/errors.ts';
import type { Running } from '../base/running.ts';
import type { Leftovers } from './leftovers.ts';
import type { JobProgress } from './progress.ts';
import type { SharedVertex } from './shared-vertex.ts';
import type { Caches } from './sources.ts';
import type { Twins } from './twins.ts';
import type { Op, Result, StepOwner, Vertex } from './types.ts';

/** What a shared vertex needs of the job that contains it. */
export interface VertexOwner<Spec, R extends Result> extends StepOwner {
  readonly progress: JobProgress;
  readonly sessions: readonly string[];
  /** Looks into what failed steps leave. */
  readonly looksIntoFailures: boolean;
  /** Keeps more vertexes alive. */
  adopt(graph: readonly SharedVertex<Spec, R>[]): void;
}

export interface SharedVertexOptions<Spec, R extends Result> {
  readonly op: Op<R>;
  /** Adds vertex and source details to an error of this vertex. */
  readonly describeError: (error: unknown, vertex: Vertex<Spec>) => BuildError;
  /** What its edges look into and write to. */
  readonly caches: Caches<R>;
  readonly twins: Twins<Spec, R>;
  readonly leftovers: Leftovers;
  /** Keeps a vertex and its inputs wanted, and owned by the owners of `by`. @throws when it waits for `by` */
  readonly lend: (vertex: SharedVertex<Spec, R>, by: SharedVertex<Spec, R>) => Disposable;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** Where work is counted until it has ended, also after it was aborted. */
  readonly running: Running;
}
