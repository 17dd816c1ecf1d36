import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import { Running } from '../base/running.ts';
import { claim, sharedGraph, vertexGraph, waitsFor } from './graph.ts';
import { Job, type JobHost, type JobOptions, type Loaded } from './job.ts';
import type { KeyStore } from './keystore.ts';
import { Leftovers } from './leftovers.ts';
import { Unwanted } from './memo.ts';
import { SharedVertex } from './shared-vertex.ts';
import { type EdgeState, edgeState, type JobState } from './state.ts';
import { type CacheImport, Caches, type OwnCache, type ResultStore } from './sources.ts';
import { Twins } from './twins.ts';
import type { EdgeRef, Leftover, Op, Result, SolveFor, Vertex } from './types.ts';

/** How long `job` waits for a job that is not there yet, milliseconds (FEATURES B25). */
const JOB_WAIT_MS = 6000;

export interface SolverOptions<Spec, R extends Result> {
  /** The runnable step of a vertex; called once for each shared vertex. */
  readonly resolveOp: (vertex: Vertex<Spec>, solve: SolveFor<Spec, R>) => Op<R>;
  /** A vertex is asked for again: its op may take over what of the new one is no part of the identity. */
  readonly joined?: (op: Op<R>, vertex: Vertex<Spec>) => void;
  readonly keys: KeyStore;
  readonly results: ResultStore<R>;
  /** Adds details to an error of a vertex; detail `errdefs.Vertex` when absent (FEATURES E23). */
  readonly describeError?: (error: unknown, vertex: Vertex<Spec>) => BuildError;
  /** Unix milliseconds for records; the machine's clock when absent. */
  readonly now?: () => number;
}

/**
 * Solves graphs of vertexes for several jobs at once: a vertex that several contain is worked on once, steps
 * with the same identity run once, and what the cache holds is loaded instead of made.
 */
export class Solver<Spec, R extends Result> {
  readonly #options: SolverOptions<Spec, R>;
  readonly #cache: OwnCache<R>;
  readonly #host: JobHost<Spec, R>;
  readonly #vertexes = new Map<string, SharedVertex<Spec, R>>();
  readonly #twins = new Twins<Spec, R>();
  readonly #leftovers: Leftovers;
  readonly #jobs = new Map<string, Job<Spec, R>>();
  readonly #running = new Running();
  readonly #waiters = new Map<string, Set<(job: Job<Spec, R>) => void>>();

  constructor(options: SolverOptions<Spec, R>) {
    this.#options = options;
    this.#cache = { keys: options.keys, results: options.results };
    this.#leftovers = new Leftovers(this.#running);
    this.#host = {
      load: (edge, imports) => this.#load(edge, imports),
      drop: (vertex) => this.#drop(vertex),
      closed: (job) => {
        if (this.#jobs.get(job.id) === job) this.#jobs.delete(job.id);
      },
    };
  }

  /** Opens a job; the caller closes it. @throws when one of this id is open. */
  createJob(id: string, options: JobOptions): Job<Spec, R> {
    if (this.#jobs.has(id)) throw new BuildError(`job ID ${id} exists`, { code: Code.alreadyExists });
    const job = new Job(id, options, this.#host);
    this.#jobs.set(id, job);
    for (const wake of this.#waiters.get(id) ?? []) wake(job);
    return job;
  }

  /** The open job `id`; waits a few seconds for it, since clients ask before it is there. */
  async job(id: string, signal?: AbortSignal): Promise<Job<Spec, R>> {
    const open = this.#jobs.get(id);
    if (open) return open;
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(id) ?? new Set();
      this.#waiters.set(id, waiters);
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        waiters.delete(wake);
        if (waiters.size === 0 && this.#waiters.get(id) === waiters) this.#waiters.delete(id);
      };
      const wake = (job: Job<Spec, R>): void => {
        end();
        resolve(job);
      };
      const fail = (error: unknown): void => {
        end();
        reject(error);
      };
      const onAbort = (): void => fail(signal?.reason);
      const timer = setTimeout(
        () => fail(new BuildError(`no such job ${id}`, { code: Code.notFound, told: true })),
        JOB_WAIT_MS,
      );
      signal?.addEventListener('abort', onAbort, { once: true });
      waiters.add(wake);
    });
  }

  /**
   * Forgets what is known of the vertexes of a graph: a result they hold has turned out to be lost. The next solve
   * asks all of them again; who waits for the old ones still gets their answers.
   */
  renew({ vertex }: EdgeRef<Spec>): void {
    for (const next of vertexGraph(vertex))
      for (const key of Object.values(shareKeys(next))) {
        const state = this.#vertexes.get(key);
        if (state) this.#forget(state);
      }
  }

  /** The job, if it is open now. */
  find(id: string): Job<Spec, R> | undefined {
    return this.#jobs.get(id);
  }

  /** How many jobs are open. */
  get activeJobs(): number {
    return this.#jobs.size;
  }

  /**
   * Waits until no op runs any more: one that was aborted may still have a process to end and trees to let go.
   * False when that takes longer than `limitMs`. For after the last job has closed.
   */
  idle(limitMs: number): Promise<boolean> {
    return this.#running.ended(limitMs);
  }

  /** Every open job, and what it does beside its vertexes. */
  jobStates(): JobState[] {
    return [...this.#jobs.values()].map((job) => job.state);
  }

  /** What every edge is at and what it waits for; for debugging. */
  dump(): EdgeState[] {
    return [...this.#vertexes.values()].flatMap((shared) =>
      [...shared.edges.values()].map((edge) => edgeState(edge)),
    );
  }

  /** The results that open jobs hold. */
  *held(): Iterable<{ readonly value: R; readonly vertex: string; readonly jobs: readonly string[] }> {
    for (const { vertex, edges, owners } of this.#vertexes.values())
      for (const { value } of edges.values())
        if (value) yield { value, vertex: vertex.name, jobs: [...owners].map(({ id }) => id) };
  }

  /** What failed steps of open jobs left. */
  *leftovers(): Iterable<{
    readonly leftover: Leftover;
    readonly vertex: string;
    readonly jobs: readonly string[];
  }> {
    for (const { leftover, vertex, owners } of this.#vertexes.values())
      if (leftover) yield { leftover, vertex: vertex.name, jobs: [...owners].map(({ id }) => id) };
  }

  /** Lets go of all that failed steps left: their bytes are wanted elsewhere. False when there was nothing. */
  dropLeftovers(): Promise<boolean> {
    return this.#leftovers.dropAll();
  }

  #load({ vertex, index }: EdgeRef<Spec>, imports: readonly CacheImport<R>[]): Loaded<Spec, R> {
    const shared = new Map<Vertex<Spec>, SharedVertex<Spec, R>>();
    const made: SharedVertex<Spec, R>[] = [];
    try {
      for (const next of vertexGraph(vertex)) {
        const key = this.#shareKey(next);
        let state = this.#vertexes.get(key);
        if (state) this.#options.joined?.(state.op, next);
        else {
          state = this.#create(next, shared);
          made.push(state);
          this.#vertexes.set(key, state);
        }
        state.caches.addImports(imports);
        shared.set(next, state);
      }
    } catch (error) {
      for (const state of made) this.#forget(state);
      throw error;
    }
    const edge = (shared.get(vertex) as SharedVertex<Spec, R>).edge(index);
    const graph = sharedGraph(edge.shared);
    // One that was there has the inputs that it had: what was made for it is not needed.
    const needed = new Set(graph);
    for (const state of made) if (!needed.has(state)) this.#forget(state);
    return { edge, graph };
  }

  /**
   * A vertex that ignores the cache has a state apart from one that does not and was there before; one that
   * does not joins any (FEATURES E1).
   */
  #shareKey(vertex: Vertex<Spec>): string {
    const { plain, apart } = shareKeys(vertex);
    if (this.#vertexes.has(apart)) return apart;
    const known = this.#vertexes.get(plain);
    return known && !known.vertex.options.ignoreCache && vertex.options.ignoreCache ? apart : plain;
  }

  #create(
    vertex: Vertex<Spec>,
    shared: ReadonlyMap<Vertex<Spec>, SharedVertex<Spec, R>>,
  ): SharedVertex<Spec, R> {
    const inputs = vertex.inputs.map((input) =>
      (shared.get(input.vertex) as SharedVertex<Spec, R>).edge(input.index),
    );
    const describeError = this.#options.describeError ?? withVertex;
    try {
      const op = this.#options.resolveOp(vertex, (edge) => this.#solveFor(made, edge));
      const made: SharedVertex<Spec, R> = new SharedVertex(vertex, inputs, {
        op,
        describeError,
        running: this.#running,
        twins: this.#twins,
        leftovers: this.#leftovers,
        lend,
        now: this.#options.now ?? Date.now,
        caches: new Caches(this.#cache),
      });
      return made;
    } catch (error) {
      throw describeError(BuildError.wrap(error, 'failed to load cache key'), vertex);
    }
  }

  /** Solves a graph that a running step has found out about. */
  async #solveFor(by: SharedVertex<Spec, R>, ref: EdgeRef<Spec>): Promise<R | null> {
    if (by.wanted === 0 || by.owners.size === 0) throw new Unwanted();
    const { edge, graph } = this.#load(ref, by.caches.imports);
    try {
      return await by.borrow(edge.shared, async () => {
        const { value } = await edge.result();
        return edge.shared.give(value);
      });
    } catch (error) {
      // One that was refused has no owner.
      await Promise.all(graph.map((vertex) => this.#drop(vertex)));
      throw error;
    }
  }

  async #drop(vertex: SharedVertex<Spec, R>): Promise<void> {
    if (vertex.owners.size > 0) return;
    this.#forget(vertex);
    await vertex.release();
  }

  #forget(vertex: SharedVertex<Spec, R>): void {
    for (const key of Object.values(shareKeys(vertex.vertex))) {
      if (this.#vertexes.get(key) === vertex) this.#vertexes.delete(key);
    }
    this.#twins.forget(vertex);
  }
}

/**
 * A claim of `by` on another vertex. The jobs that want `by` take the other one over, too.
 * @throws when that one waits for `by`: neither would ever end.
 */
function lend<Spec, R extends Result>(vertex: SharedVertex<Spec, R>, by: SharedVertex<Spec, R>): Disposable {
  if (waitsFor(vertex, by)) throw invalidArgument(`step ${by.vertex.name} waits for itself`);
  const graph = sharedGraph(vertex);
  for (const owner of by.owners) owner.adopt(graph);
  return claim(graph);
}

function withVertex<Spec>(error: unknown, vertex: Vertex<Spec>): BuildError {
  const own = BuildError.from(error);
  const known = own.details.some((detail) => 'type' in detail && detail.type === 'errdefs.Vertex');
  return known ? own : own.with({ type: 'errdefs.Vertex', value: { digest: vertex.digest } });
}

/** Names that a vertex may be shared under: `apart` is that of one that ignores the cache beside one that does not. */
function shareKeys<Spec>({ digest, variant }: Vertex<Spec>): Readonly<Record<'plain' | 'apart', string>> {
  const plain = variant === undefined ? digest : `${digest}-${variant}`;
  return { plain, apart: `${plain}-ignorecache` };
}
