import type { Digest } from '../base/digest.ts';
import { BuildError, canceled, isCanceled } from '../base/errors.ts';
import { abortable } from '../base/shared-task.ts';
import { Activities } from './activities.ts';
import type { Edge } from './edge.ts';
import { claim, sharedGraph } from './graph.ts';
import { Unwanted } from './memo.ts';
import { JobProgress, VertexReporter } from './progress.ts';
import type { SharedVertex } from './shared-vertex.ts';
import type { JobState } from './state.ts';
import type { CacheImport, CacheSource } from './sources.ts';
import type {
  EdgeRef,
  Leftover,
  Op,
  ProgressGroup,
  Result,
  SolveStatus,
  Vertex,
  VertexProgress,
  VertexTrace,
} from './types.ts';
import type { VertexOwner } from './vertex-options.ts';

/** An edge that can be solved, and every vertex that it takes. */
export interface Loaded<Spec, R extends Result> {
  readonly edge: Edge<Spec, R>;
  readonly graph: readonly SharedVertex<Spec, R>[];
}

/** The solver's side of a job. */
export interface JobHost<Spec, R extends Result> {
  readonly load: (edge: EdgeRef<Spec>, imports: readonly CacheImport<R>[]) => Loaded<Spec, R>;
  /** A vertex lost its last owner. */
  readonly drop: (vertex: SharedVertex<Spec, R>) => Promise<void>;
  readonly closed: (job: Job<Spec, R>) => void;
}

export interface JobOptions {
  /** Ids of client sessions. */
  readonly sessions: readonly string[];
  /** Steps that run at once for this job; absent for no limit. */
  readonly maxParallelism?: number;
}

/** What a solve gives. */
export interface Solved<Spec, R> {
  /** Owned by the caller, who releases it. null is the empty tree. */
  readonly value: R | null;
  /** Where the result stands in the cache graph: an export of the cache walks back from here. */
  readonly keys: readonly string[];
  readonly cached: boolean;
  /** The steps behind the result, inputs first, also those that nobody had to run. */
  readonly steps: readonly SolvedStep<Spec, R>[];
}

export interface SolvedStep<Spec, R> {
  readonly vertex: Vertex<Spec>;
  readonly op: Op<R>;
  /** Where the outputs that were asked for stand in the cache graph. */
  readonly outputs: () => readonly { readonly index: number; readonly keys: readonly string[] }[];
}

export interface StepFailure<Spec> {
  readonly vertex: Vertex<Spec>;
  readonly leftover: Leftover | undefined;
}

/** What an export of the cache walks through. */
export interface CacheTrace<R extends Result> {
  /** Keys at which edges of the job stand, with what their vertex says of being exported. */
  readonly keys: ReadonlyMap<string, { readonly exportCache?: boolean }>;
  /** The solver's own cache and those that were imported. */
  readonly sources: readonly CacheSource<R>[];
}

/**
 * The scope of one request (FEATURES E1): its sessions, its progress and the vertexes it holds. Frontends call
 * `solve` as often as they like, also while other solves run. Closing it (`await using`) ends what only it
 * wants and frees what only it holds.
 */
export class Job<Spec, R extends Result> implements VertexOwner<Spec, R>, AsyncDisposable {
  readonly id: string;
  readonly maxParallelism?: number;
  readonly progress = new JobProgress();
  readonly #host: JobHost<Spec, R>;
  readonly #sessions: string[];
  readonly #owned = new Set<SharedVertex<Spec, R>>();
  /** Those of `step` that go on. */
  readonly #steps = new Set<VertexReporter>();
  readonly #end = new AbortController();
  readonly #doing = new Activities();
  #looksIntoFailures = false;

  constructor(id: string, options: JobOptions, host: JobHost<Spec, R>) {
    this.id = id;
    this.#sessions = [...options.sessions];
    if (options.maxParallelism !== undefined) this.maxParallelism = options.maxParallelism;
    this.#host = host;
  }

  /** Ids of the client sessions that steps of this job may use. */
  get sessions(): readonly string[] {
    return this.#sessions;
  }

  addSession(id: string): void {
    if (!this.#sessions.includes(id)) this.#sessions.push(id);
  }

  /**
   * Solves an edge, or gives what is known of it already. Aborting stops this wait at once, and the work when
   * nobody else wants it. The vertexes look into `imports` too. @throws BuildError; errors of a vertex name it
   * (FEATURES E23).
   */
  async solve(
    ref: EdgeRef<Spec>,
    signal?: AbortSignal,
    imports: readonly CacheImport<R>[] = [],
  ): Promise<Solved<Spec, R>> {
    const ended = signal ? AbortSignal.any([signal, this.#end.signal]) : this.#end.signal;
    if (ended.aborted) throw canceled(ended.reason);
    const { edge, graph } = this.#host.load(ref, imports);
    this.adopt(graph);
    using _claim = claim(graph);
    try {
      const { value, keys, cached } = await abortable(edge.result(), ended);
      ended.throwIfAborted(); // closing lets go of the value
      const steps = graph.map(({ vertex, op, edges }) => ({
        vertex,
        op,
        outputs: () => [...edges.values()].map(({ index, knownKeys }) => ({ index, keys: [...knownKeys] })),
      }));
      return { value: value === null ? null : (value.clone() as R), keys, cached, steps };
    } catch (error) {
      if (ended.aborted || error instanceof Unwanted) throw canceled(error);
      throw error;
    }
  }

  get state(): JobState {
    return { id: this.id, lastProgress: this.progress.lastEvent, doing: this.#doing.list };
  }

  get looksIntoFailures(): boolean {
    return this.#looksIntoFailures;
  }

  /** From now on what failed steps leave is kept until the job closes. */
  lookIntoFailures(): void {
    this.#looksIntoFailures = true;
  }

  /** A vertex of this job, and what it left when it failed, as far as that is kept. */
  failure(digest: string): StepFailure<Spec> | undefined {
    const alike = [...this.#owned].filter(({ vertex }) => vertex.digest === digest);
    const found = alike.find(({ leftover }) => leftover) ?? alike[0];
    return found && { vertex: found.vertex, leftover: found.leftover };
  }

  /** Aborts when the job closes. */
  get signal(): AbortSignal {
    return this.#end.signal;
  }

  /** What this job knows of the cache now, for an export of it. */
  cacheTrace(): CacheTrace<R> {
    const keys = new Map<string, { readonly exportCache?: boolean }>();
    const sources = new Set<CacheSource<R>>();
    for (const { vertex, caches, edges } of this.#owned) {
      for (const source of caches.sources) sources.add(source);
      for (const edge of edges.values()) for (const key of edge.knownKeys) keys.set(key, vertex.options);
    }
    return { keys, sources: [...sources] };
  }

  /** How the vertexes of this job went so far. */
  trace(): VertexTrace<Spec>[] {
    return [...this.#owned].map((shared) => {
      const { vertex, reporter, lost } = shared;
      const edges = [...shared.edges.values()];
      const keys = [...new Set(edges.flatMap(({ knownKeys }) => [...knownKeys]))];
      const matches = [...new Set(edges.flatMap(({ knownMatches }) => [...knownMatches]))];
      return { ...shared.trace(), vertex, state: reporter.state, keys, matches, lost };
    });
  }

  /** Shows `work` as a step of its own, beside the vertexes that are solved. */
  async step<T>(
    digest: Digest,
    name: string,
    work: (progress: VertexProgress) => Promise<T>,
    options: { readonly progressGroup?: ProgressGroup } = {},
  ): Promise<T> {
    const reporter = new VertexReporter(digest, name, [], options.progressGroup);
    reporter.join(this.progress);
    reporter.start();
    this.#steps.add(reporter);
    try {
      const value = await this.#doing.at(name, () => work(reporter));
      reporter.complete();
      return value;
    } catch (error) {
      reporter.complete(isCanceled(error) ? 'context canceled' : BuildError.from(error).message);
      throw error;
    } finally {
      this.#steps.delete(reporter);
    }
  }

  /** Everything that happened, then what happens, until the job closes. Aborting ends the iteration. */
  status(signal: AbortSignal): AsyncIterable<SolveStatus> {
    return this.progress.read(signal);
  }

  adopt(graph: readonly SharedVertex<Spec, R>[]): void {
    if (this.#end.signal.aborted) return;
    for (const vertex of graph) {
      if (vertex.owners.has(this)) continue;
      vertex.owners.add(this);
      this.#owned.add(vertex);
      vertex.reporter.join(this.progress);
      for (const lender of vertex.lenders()) this.adopt(sharedGraph(lender));
    }
  }

  /** Ends open solves, readers of the progress, and what only this job held. */
  async close(): Promise<void> {
    if (this.#end.signal.aborted) return;
    this.#end.abort(canceled());
    this.#host.closed(this);
    const orphans: SharedVertex<Spec, R>[] = [];
    for (const vertex of this.#owned) {
      vertex.owners.delete(this);
      if (vertex.owners.size === 0) {
        orphans.push(vertex);
        vertex.reporter.cancel(); // what ends it comes too late for this job's readers
      }
      vertex.reporter.leave(this.progress);
    }
    this.#owned.clear();
    for (const step of this.#steps) step.leave(this.progress);
    this.progress.close();
    await Promise.all(orphans.map((vertex) => this.#host.drop(vertex)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
