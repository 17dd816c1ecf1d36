import type { Digest } from '../base/digest.ts';
import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { Running } from '../base/running.ts';
import type { Edge } from './edge.ts';
import { inputsFirst } from './graph.ts';
import { Memo, Unwanted } from './memo.ts';
import { type JobProgress, nowNanos, VertexReporter } from './progress.ts';
import type { Caches } from './sources.ts';
import type { CacheMap, Op, OpContext, Result, Vertex, VertexProgress } from './types.ts';

/** What a shared vertex needs of the job that contains it. */
export interface VertexOwner<Spec, R extends Result> {
  readonly id: string;
  readonly progress: JobProgress;
  readonly sessions: readonly string[];
  /** Keeps more vertexes alive. */
  adopt(graph: readonly SharedVertex<Spec, R>[]): void;
}

export interface SharedVertexOptions<Spec, R extends Result> {
  readonly op: Op<R>;
  /** Adds vertex and source details to an error of this vertex. */
  readonly describeError: (error: unknown, vertex: Vertex<Spec>) => BuildError;
  /** What its edges look into and write to. */
  readonly caches: Caches<R>;
  /** Where work is counted until it has ended, also after it was aborted. */
  readonly running: Running;
}

/**
 * State of one vertex, shared by all jobs that contain it (FEATURES E1). `owners` keep it alive; `wanted`
 * counts the solves that wait for it right now: when that stays zero for a turn, what runs is aborted.
 */
export class SharedVertex<Spec, R extends Result> {
  readonly vertex: Vertex<Spec>;
  readonly op: Op<R>;
  readonly caches: Caches<R>;
  readonly inputs: readonly Edge<Spec, R>[];
  readonly reporter: VertexReporter;
  readonly owners = new Set<VertexOwner<Spec, R>>();
  readonly edges = new Map<number, Edge<Spec, R>>();
  readonly #describe: (error: unknown) => BuildError;
  readonly #running: Running;
  readonly #maps: Memo<{ map: CacheMap<R>; done: boolean }>[] = [];
  readonly #prepared: readonly Memo<void>[];
  readonly #contents: readonly Memo<Digest | undefined>[];
  readonly #exec: Memo<readonly (R | null)[]>;
  readonly #held = new Set<R>();
  /** Claims on other vertexes, with those. */
  readonly #borrowed = new Map<Disposable, SharedVertex<Spec, R>>();
  readonly #isWanted = (): boolean => this.#wanted > 0 && !this.#released;
  /** Made when an op is called first: signals are heavy, and most vertexes of a cached build call none. */
  #abort: AbortController | undefined;
  #wanted = 0;
  #released = false;

  constructor(vertex: Vertex<Spec>, inputs: readonly Edge<Spec, R>[], options: SharedVertexOptions<Spec, R>) {
    this.vertex = vertex;
    this.inputs = inputs;
    this.op = options.op;
    this.caches = options.caches;
    this.#running = options.running;
    this.#describe = (error) => options.describeError(error, vertex);
    this.#prepared = inputs.map((_, i) => this.memo(() => this.#prepare(i)));
    this.#contents = inputs.map((_, i) => this.memo(() => this.#findContent(i)));
    this.#exec = this.memo(() => this.#callExec());
    const { digest, name, options: shown } = vertex;
    const digests = new Set(vertex.inputs.map((input) => input.vertex.digest));
    this.reporter = new VertexReporter(digest, name, [...digests], shown.progressGroup);
  }

  /** A memo that lives as long as somebody wants this vertex. */
  memo<T>(work: () => Promise<T>): Memo<T> {
    return new Memo(() => this.#running.track(work()), this.#isWanted);
  }

  get wanted(): number {
    return this.#wanted;
  }

  want(): void {
    this.#wanted++;
  }

  unwant(): void {
    this.#wanted--;
  }

  /** Aborts what runs if nobody wants it now. */
  abortUnwanted(): void {
    if (this.#wanted > 0) return;
    const before = this.#abort;
    this.#abort = undefined;
    before?.abort(new Unwanted());
    for (const loan of this.#borrowed.keys()) loan[Symbol.dispose]();
    this.#borrowed.clear();
  }

  /** Keeps a claim on `lender` and its inputs for as long as `work` runs and this vertex is wanted. */
  async borrow<T>(lender: SharedVertex<Spec, R>, loan: Disposable, work: () => Promise<T>): Promise<T> {
    this.#borrowed.set(loan, lender);
    try {
      return await work();
    } finally {
      if (this.#borrowed.delete(loan)) loan[Symbol.dispose]();
    }
  }

  /** Vertexes that this one waits for beside its inputs. */
  lenders(): Iterable<SharedVertex<Spec, R>> {
    return this.#borrowed.values();
  }

  cacheMap(index: number): Promise<{ map: CacheMap<R>; done: boolean }> {
    this.#maps[index] ??= this.memo(() => this.#callCacheMap(index));
    return this.#maps[index].get();
  }

  /** Digest of the content of input `input`; undefined when the step does not depend on content. */
  content(input: number): Promise<Digest | undefined> {
    return this.#contents[input]?.get() ?? Promise.resolve(undefined);
  }

  /** Runs the step once all inputs are there and prepared. Outputs stay the vertex's: take clones. */
  exec(): Promise<readonly (R | null)[]> {
    return this.#exec.get();
  }

  get executed(): boolean {
    return this.#exec.settled !== undefined;
  }

  /** A handle of `result`, which `from` holds, for this vertex to hold. */
  async take(from: SharedVertex<Spec, R>, result: R | null): Promise<R | null> {
    if (from.#released) throw new Unwanted();
    return this.hold(result === null ? null : (result.clone() as R));
  }

  /** Takes over a result: it is released with the vertex, at once when that has happened already. */
  async hold<T extends R | null>(result: T): Promise<T> {
    if (result === null) return result;
    if (this.#released) {
      await result.release();
      throw new Unwanted();
    }
    this.#held.add(result);
    return result;
  }

  /** Runs `work` of the op; an abort is told apart from a failure, a failure gets its vertex. */
  async guard<T>(
    work: (context: OpContext) => Promise<T>,
    progress: VertexProgress = this.reporter,
  ): Promise<T> {
    if (!this.#isWanted()) throw new Unwanted();
    this.#abort ??= new AbortController();
    const { signal } = this.#abort;
    const sessions = (): string[] => [...new Set([...this.owners].flatMap((owner) => owner.sessions))];
    try {
      return await work({ signal, progress, sessions, vertex: this.vertex.digest });
    } catch (error) {
      if (signal.aborted || error instanceof Unwanted) throw new Unwanted();
      throw this.#describe(error);
    }
  }

  /** Shows ancestors that nobody had to look at as cached, inputs first, then the vertex as started (E18). */
  started(cached: boolean): void {
    const at = nowNanos();
    const skipped = inputsFirst<SharedVertex<Spec, R>>(this, (vertex) =>
      vertex.inputs
        .map((input) => input.shared)
        .filter((shared) => shared.reporter.state.started === undefined),
    );
    for (const vertex of skipped) if (vertex !== this) vertex.reporter.skip(at);
    this.reporter.start(cached, at);
  }

  async release(): Promise<void> {
    this.#released = true;
    this.#wanted = 0;
    this.abortUnwanted();
    const held = [...this.#held];
    this.#held.clear();
    await Promise.all(held.map((result) => result.release()));
  }

  async #callCacheMap(index: number): Promise<{ map: CacheMap<R>; done: boolean }> {
    // Only sources have something to show here: the look-ups of the others take no time.
    const show = this.vertex.inputs.length === 0 && index === 0;
    return this.guard(async (context) => {
      if (show) this.started(false);
      try {
        const result = await this.op.cacheMap(index, context);
        if (show) this.reporter.complete();
        return result;
      } catch (error) {
        if (!show) this.started(false);
        this.reporter.complete(errorText(error, context.signal));
        if (context.signal.aborted || error instanceof Unwanted) throw error;
        throw BuildError.wrap(error, 'failed to load cache key');
      }
    });
  }

  async #prepare(input: number): Promise<void> {
    const { map } = await this.cacheMap(0);
    const preprocess = map.deps[input]?.preprocess;
    const edge = this.inputs[input];
    if (!preprocess || !edge) return;
    const { value } = await edge.result();
    if (value === null) return;
    await this.#compute((context) => preprocess(value, context), edge.shared.reporter);
  }

  async #findContent(input: number): Promise<Digest | undefined> {
    const { map } = await this.cacheMap(0);
    const contentKey = map.deps[input]?.contentKey;
    const edge = this.inputs[input];
    if (!contentKey || !edge) return undefined;
    const { value } = await edge.result();
    if (value === null) return digestOf('');
    await this.#prepared[input]?.get();
    return this.#compute((context) => contentKey(value, context));
  }

  /** Looks at an input's result. A failure is shown at this vertex, which has not started yet. */
  #compute<T>(
    work: (context: OpContext) => Promise<T>,
    progress: VertexProgress = this.reporter,
  ): Promise<T> {
    return this.guard(async (context) => {
      try {
        return await work(context);
      } catch (error) {
        if (context.signal.aborted) throw error;
        this.started(false);
        this.reporter.complete(errorText(error, context.signal));
        throw BuildError.wrap(error, 'failed to compute cache key');
      }
    }, progress);
  }

  async #callExec(): Promise<readonly (R | null)[]> {
    const inputs = await Promise.all(this.inputs.map((input) => input.result()));
    await Promise.all(this.#prepared.map((prepared) => prepared.get()));
    await Promise.all(this.#contents.map((content) => content.get()));
    const outputs = await this.guard(async (context) => {
      using _permit = await this.op.acquire?.(context.signal);
      if (context.signal.aborted) throw new Unwanted();
      this.started(false);
      try {
        const made = await this.op.exec(
          inputs.map(({ value }) => value),
          context,
        );
        this.reporter.complete();
        return made;
      } catch (error) {
        this.reporter.complete(errorText(error, context.signal));
        throw error;
      }
    });
    const settled = await Promise.allSettled(outputs.map((output) => this.hold(output)));
    if (settled.some(({ status }) => status === 'rejected')) throw new Unwanted();
    return outputs;
  }
}

function errorText(error: unknown, signal: AbortSignal): string {
  return signal.aborted || error instanceof Unwanted ? 'context canceled' : BuildError.from(error).message;
}
