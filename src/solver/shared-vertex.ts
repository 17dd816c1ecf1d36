import { BuildError } from '../base/errors.ts';
import type { Digest } from '../base/digest.ts';
import { Memo, Unwanted } from './memo.ts';
import { type JobProgress, VertexReporter } from './progress.ts';
import type { CacheMap, Op, OpContext, Result, Vertex } from './types.ts';

/** What a shared vertex needs of the job that contains it. */
export interface VertexOwner {
  readonly progress: JobProgress;
  readonly sessions: readonly string[];
}

export interface SharedVertexOptions<Spec, R extends Result> {
  readonly op: Op<R>;
  /** Adds vertex and source details to an error of this vertex. */
  readonly describeError: (error: unknown, vertex: Vertex<Spec>) => BuildError;
}

/**
 * State of one vertex, shared by all jobs that contain it (FEATURES E1). `owners` keep it alive; `wanted`
 * counts the solves that wait for it right now: when that drops to zero, what runs is aborted one turn later.
 */
export class SharedVertex<Spec, R extends Result> {
  readonly vertex: Vertex<Spec>;
  readonly inputs: readonly SharedVertex<Spec, R>[];
  readonly reporter: VertexReporter;
  readonly owners = new Set<VertexOwner>();
  readonly #op: Op<R>;
  readonly #describe: (error: unknown) => BuildError;
  readonly #maps: Memo<{ map: CacheMap<R>; done: boolean }>[] = [];
  #exec: Memo<readonly (R | null)[]> | undefined;
  #abort = new AbortController();
  #wanted = 0;
  /** Calls into the op that have not returned. */
  #calls = 0;
  #quiet: (() => void)[] = [];

  constructor(
    vertex: Vertex<Spec>,
    inputs: readonly SharedVertex<Spec, R>[],
    options: SharedVertexOptions<Spec, R>,
  ) {
    this.vertex = vertex;
    this.inputs = inputs;
    this.#op = options.op;
    this.#describe = (error) => options.describeError(error, vertex);
    this.reporter = new VertexReporter(
      vertex.digest,
      vertex.name,
      [...new Set(vertex.inputs.map((i) => i.vertex.digest))],
      vertex.options.progressGroup,
    );
  }

  get wanted(): number {
    return this.#wanted;
  }

  want(): void {
    this.#wanted++;
  }

  unwant(): void {
    this.#wanted--;
    // One turn of grace: a solve that hands over to the next is no cancellation.
    if (this.#wanted === 0) setImmediate(() => this.#abortUnwanted());
  }

  /** Context of a call into the op. */
  context(): OpContext {
    return {
      signal: this.#abort.signal,
      progress: this.reporter,
      sessions: () => [...new Set([...this.owners].flatMap((owner) => owner.sessions))],
      vertex: this.vertex.digest,
    };
  }

  cacheMap(index: number): Promise<{ map: CacheMap<R>; done: boolean }> {
    this.#maps[index] ??= new Memo(() => this.#callCacheMap(index));
    return this.#maps[index].get();
  }

  /** Outputs stay owned by the vertex; take clones. */
  exec(inputs: readonly (R | null)[]): Promise<readonly (R | null)[]> {
    this.#exec ??= new Memo(() => this.#callExec(inputs));
    return this.#exec.get();
  }

  get executed(): boolean {
    return this.#exec?.settled !== undefined;
  }

  /** Runs `work` of the op; an abort is told apart from a failure, a failure gets its vertex. */
  async guard<T>(work: (context: OpContext) => Promise<T>): Promise<T> {
    const context = this.context();
    this.#calls++;
    try {
      context.signal.throwIfAborted();
      return await work(context);
    } catch (error) {
      if (context.signal.aborted) throw new Unwanted();
      throw this.#describe(error);
    } finally {
      if (--this.#calls === 0) for (const wake of this.#quiet.splice(0)) wake();
    }
  }

  /** Marks the vertex and every ancestor that nobody had to look at. */
  started(cached: boolean): void {
    this.reporter.start(cached);
    const at = this.reporter.state.started ?? 0n;
    const todo = [...this.inputs];
    for (let next = todo.pop(); next; next = todo.pop()) {
      if (next.reporter.state.started !== undefined) continue;
      next.reporter.skip(at);
      todo.push(...next.inputs);
    }
  }

  /** Nobody owns the vertex any more: aborts what runs, waits for its end, lets go of the outputs. */
  async release(): Promise<void> {
    this.#abort.abort(new Unwanted());
    if (this.#calls > 0) await new Promise<void>((resolve) => this.#quiet.push(resolve));
    if (!this.#exec) return;
    const outputs = await this.#exec.get().catch(() => []); // a failed run left nothing behind
    await Promise.all(outputs.map((output) => output?.release()));
  }

  async #callCacheMap(index: number): Promise<{ map: CacheMap<R>; done: boolean }> {
    // Only sources have something to show here: the look-ups of the others take no time.
    const show = this.vertex.inputs.length === 0 && index === 0;
    if (show) this.started(false);
    try {
      const result = await this.guard((context) => this.#op.cacheMap(index, context));
      if (show) this.reporter.complete();
      return result;
    } catch (error) {
      if (!show) this.started(false);
      this.reporter.complete(errorText(error));
      throw error;
    }
  }

  async #callExec(inputs: readonly (R | null)[]): Promise<readonly (R | null)[]> {
    return this.guard(async (context) => {
      using _permit = await this.#op.acquire?.(context.signal);
      this.started(false);
      try {
        const outputs = await this.#op.exec(inputs, context);
        this.reporter.complete();
        return outputs;
      } catch (error) {
        this.reporter.complete(context.signal.aborted ? 'context canceled' : errorText(error));
        throw error;
      }
    });
  }

  #abortUnwanted(): void {
    if (this.#wanted > 0) return;
    const before = this.#abort;
    this.#abort = new AbortController();
    before.abort(new Unwanted());
  }
}

function errorText(error: unknown): string {
  return error instanceof Unwanted ? 'context canceled' : BuildError.from(error).message;
}

/** Digest under which a vertex is shared; ignore-cache vertices are shared among themselves. */
export function shareKey(vertex: {
  readonly digest: Digest;
  readonly options: { ignoreCache: boolean };
}): string {
  return vertex.options.ignoreCache ? `${vertex.digest}-ignorecache` : vertex.digest;
}
