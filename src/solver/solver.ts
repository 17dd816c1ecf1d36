import { BuildError, Code, isCanceled, notFound } from '../base/errors.ts';
import { abortable } from '../base/shared-task.ts';
import { Edge, type EdgeEnvironment, type EdgeResult, type ResultStore } from './edge.ts';
import { Job } from './job.ts';
import type { KeyStore } from './keystore.ts';
import { Unwanted } from './memo.ts';
import {
  type SharedVertex,
  SharedVertex as SharedVertexClass,
  shareKey,
  type VertexOwner,
} from './shared-vertex.ts';
import type { EdgeRef, Op, Result, Vertex } from './types.ts';

/** How long a status request waits for its job to appear, milliseconds (FEATURES B25). */
const JOB_WAIT_MS = 6000;

export interface SolverOptions<Spec, R extends Result> {
  readonly keys: KeyStore;
  readonly results: ResultStore<R>;
  readonly resolveOp: (vertex: Vertex<Spec>) => Op<R>;
  /** Adds vertex and source details to an error of `vertex`. */
  readonly describeError: (error: unknown, vertex: Vertex<Spec>) => BuildError;
}

interface SharedEntry<Spec, R extends Result> {
  readonly shared: SharedVertex<Spec, R>;
  readonly edges: Map<number, Edge<Spec, R>>;
}

/** Solves graphs for many jobs at once; equal vertices run once (FEATURES E1). */
export class Solver<Spec, R extends Result> {
  readonly #options: SolverOptions<Spec, R>;
  readonly #entries = new Map<string, SharedEntry<Spec, R>>();
  readonly #entryOf = new WeakMap<SharedVertex<Spec, R>, SharedEntry<Spec, R>>();
  readonly #identities = new Map<string, Edge<Spec, R>>();
  readonly #jobs = new Map<string, Job<Spec, R>>();
  readonly #jobWaiters = new Set<() => void>();
  readonly #env: EdgeEnvironment<Spec, R>;

  constructor(options: SolverOptions<Spec, R>) {
    this.#options = options;
    this.#env = {
      keys: options.keys,
      results: options.results,
      canonical: (identity, edge) => this.#canonical(identity, edge),
      onBehalfOf: (by, edge, work) => this.#onBehalfOf(by, edge, work),
    };
  }

  /** @throws BuildError when a job of that id runs. Dispose the job to end it. */
  createJob(id: string, options: { readonly sessions: readonly string[] }): Job<Spec, R> {
    if (this.#jobs.has(id)) throw new BuildError(`job ID ${id} exists`, { code: Code.alreadyExists });
    const job = new Job<Spec, R>(id, options.sessions, {
      solve: (edge, owner, signal) => this.#solve(edge, owner, signal),
      discard: (owner) => this.#discard(owner),
      ended: () => this.#jobs.delete(id),
    });
    this.#jobs.set(id, job);
    for (const wake of this.#jobWaiters) wake();
    return job;
  }

  /** The running job, waiting a few seconds for it to appear. @throws notFound. */
  async job(id: string, signal: AbortSignal): Promise<Job<Spec, R>> {
    const deadline = Date.now() + JOB_WAIT_MS;
    for (;;) {
      const job = this.#jobs.get(id);
      if (job) return job;
      const left = deadline - Date.now();
      if (left <= 0) throw notFound(`no such job ${id}`);
      await abortable(this.#jobAppears(left), signal);
    }
  }

  get activeJobs(): number {
    return this.#jobs.size;
  }

  /** What every vertex waits for: one line each, for people. */
  dump(): string[] {
    return [...this.#entries.values()].flatMap(({ shared, edges }) =>
      [...edges.values()].map(
        (edge) =>
          `${shared.vertex.digest} ${edge.index} ${edge.stage} wanted=${shared.wanted} owners=${shared.owners.size} ${shared.vertex.name}`,
      ),
    );
  }

  async #solve(edge: EdgeRef<Spec>, owner: VertexOwner, signal: AbortSignal): Promise<EdgeResult<R>> {
    signal.throwIfAborted();
    const target = this.#load(edge, owner);
    const graph = this.#graphOf(target.shared);
    for (const shared of graph) shared.want();
    try {
      for (;;) {
        try {
          const { value, keys, cached } = await abortable(target.result(), signal);
          return { value: value === null ? null : (value.clone() as R), keys, cached };
        } catch (error) {
          signal.throwIfAborted();
          // The work was given up just before this solve joined it: ask again.
          if (!(error instanceof Unwanted)) throw error;
        }
      }
    } catch (error) {
      if (signal.aborted || isCanceled(error)) throw BuildError.from(signal.reason ?? error);
      throw error;
    } finally {
      for (const shared of graph) shared.unwant();
    }
  }

  /** Shared state of a whole graph, inputs first, without recursion. */
  #load(edge: EdgeRef<Spec>, owner: VertexOwner): Edge<Spec, R> {
    const loaded = new Map<Vertex<Spec>, SharedEntry<Spec, R>>();
    const stack: Vertex<Spec>[] = [edge.vertex];
    while (stack.length > 0) {
      const vertex = stack.at(-1)!;
      if (loaded.has(vertex)) {
        stack.pop();
        continue;
      }
      const open = vertex.inputs.filter((input) => !loaded.has(input.vertex));
      if (open.length > 0) {
        for (const input of open) stack.push(input.vertex);
        continue;
      }
      stack.pop();
      loaded.set(vertex, this.#enter(vertex, loaded, owner));
    }
    return this.#edge(loaded.get(edge.vertex)!, edge.index);
  }

  #enter(
    vertex: Vertex<Spec>,
    loaded: ReadonlyMap<Vertex<Spec>, SharedEntry<Spec, R>>,
    owner: VertexOwner,
  ): SharedEntry<Spec, R> {
    const key = shareKey(vertex);
    let entry = this.#entries.get(key);
    if (!entry) {
      const inputs = vertex.inputs.map((input) => loaded.get(input.vertex)!);
      const shared = new SharedVertexClass<Spec, R>(
        vertex,
        inputs.map((input) => input.shared),
        { op: this.#options.resolveOp(vertex), describeError: this.#options.describeError },
      );
      entry = { shared, edges: new Map() };
      this.#entries.set(key, entry);
      this.#entryOf.set(shared, entry);
    }
    this.#own(entry.shared, owner);
    return entry;
  }

  #own(shared: SharedVertex<Spec, R>, owner: VertexOwner): void {
    if (shared.owners.has(owner)) return;
    shared.owners.add(owner);
    shared.reporter.join(owner.progress);
  }

  #edge(entry: SharedEntry<Spec, R>, index: number): Edge<Spec, R> {
    const stack: [SharedEntry<Spec, R>, number][] = [[entry, index]];
    while (stack.length > 0) {
      const [next, at] = stack.at(-1)!;
      const inputs = next.shared.vertex.inputs.map(
        (input, i) => [this.#entryOf.get(next.shared.inputs[i]!)!, input.index] as const,
      );
      const missing = inputs.filter(([from, output]) => !from.edges.has(output));
      if (!next.edges.has(at) && missing.length > 0) {
        for (const [from, output] of missing) stack.push([from, output]);
        continue;
      }
      stack.pop();
      if (next.edges.has(at)) continue;
      const edges = inputs.map(([from, output]) => from.edges.get(output)!);
      next.edges.set(at, new Edge(next.shared, at, edges, this.#env));
    }
    return entry.edges.get(index)!;
  }

  #graphOf(root: SharedVertex<Spec, R>): Set<SharedVertex<Spec, R>> {
    const graph = new Set([root]);
    for (const shared of graph) for (const input of shared.inputs) graph.add(input);
    return graph;
  }

  #canonical(identity: string, edge: Edge<Spec, R>): Edge<Spec, R> {
    const before = this.#identities.get(identity);
    const usable = before && before.shared.owners.size > 0;
    // An ignore-cache edge must not be satisfied by an ordinary one, which may come from the cache.
    if (before && usable && (before.ignoreCache || !edge.ignoreCache)) return before;
    this.#identities.set(identity, edge);
    return edge;
  }

  async #onBehalfOf<T>(by: SharedVertex<Spec, R>, edge: Edge<Spec, R>, work: () => Promise<T>): Promise<T> {
    const graph = this.#graphOf(edge.shared);
    for (const shared of graph) {
      for (const owner of by.owners) this.#own(shared, owner);
      shared.want();
    }
    try {
      return await work();
    } finally {
      for (const shared of graph) shared.unwant();
    }
  }

  #jobAppears(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#jobWaiters.delete(end);
        resolve();
      };
      const timer = setTimeout(end, timeoutMs);
      this.#jobWaiters.add(end);
    });
  }

  /** An owner is gone: what nobody else owns is stopped and released, then no longer shown to it. */
  async #discard(owner: VertexOwner): Promise<void> {
    const left: SharedEntry<Spec, R>[] = [];
    const orphans: SharedEntry<Spec, R>[] = [];
    for (const [key, entry] of this.#entries) {
      if (!entry.shared.owners.delete(owner)) continue;
      left.push(entry);
      if (entry.shared.owners.size > 0) continue;
      this.#entries.delete(key);
      orphans.push(entry);
    }
    if (orphans.length > 0) this.#forgetIdentities();
    await Promise.all(
      orphans.flatMap(({ shared, edges }) => [
        shared.release(),
        ...[...edges.values()].map((edge) => edge.release()),
      ]),
    );
    for (const { shared } of left) shared.reporter.leave(owner.progress);
  }

  #forgetIdentities(): void {
    for (const [identity, edge] of this.#identities) {
      if (edge.shared.owners.size === 0) this.#identities.delete(identity);
    }
  }
}
