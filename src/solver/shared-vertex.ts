import type { Digest } from '../base/digest.ts';
import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { Running } from '../base/running.ts';
import { Activities, type Activity } from './activities.ts';
import { Edge } from './edge.ts';
import { inputsFirst } from './graph.ts';
import { CONTENT_OUTPUT, rootKey } from './keystore.ts';
import type { Leftovers } from './leftovers.ts';
import { Memo, Unwanted } from './memo.ts';
import { nowNanos, VertexReporter } from './progress.ts';
import type { Caches } from './sources.ts';
import type { Twins } from './twins.ts';
import type { CacheMap, Op, OpContext, Result, Vertex, VertexProgress, VertexTrace } from './types.ts';
import type { SharedVertexOptions, VertexOwner } from './vertex-options.ts';

/** What a run gave; `cached` when another vertex ran. */
interface Outputs<R> {
  readonly outputs: readonly (R | null)[];
  readonly cached: boolean;
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
  /** Why a record that was found could not be loaded. */
  lost: string | undefined;
  readonly now: () => number;
  readonly #twins: Twins<Spec, R>;
  readonly #lend: SharedVertexOptions<Spec, R>['lend'];
  readonly #identity: Memo<string>;
  readonly #describe: (error: unknown) => BuildError;
  readonly #running: Running;
  readonly #leftovers: Leftovers;
  readonly #maps: Memo<{ map: CacheMap<R>; done: boolean }>[] = [];
  readonly #prepared: readonly Memo<void>[];
  readonly #contents: readonly Memo<Digest | undefined>[];
  readonly #exec: Memo<Outputs<R>>;
  readonly #held = new Set<R>();
  readonly #doing = new Activities();
  /** Claims on other vertexes, with those. */
  readonly #borrowed = new Map<Disposable, SharedVertex<Spec, R>>();
  readonly #isWanted = (): boolean => this.#wanted > 0 && !this.#released;
  /** Made when an op is called first: signals are heavy, and most vertexes of a cached build call none. */
  #abort: AbortController | undefined;
  /** The vertex that works in place of this one: itself, or a twin. */
  #standIn: SharedVertex<Spec, R> | undefined;
  /** Keys of its outputs, shared with vertexes that it ran for. */
  #outputKeys: (readonly string[])[] = [];
  #wanted = 0;
  #released = false;
  #ran = false;

  constructor(vertex: Vertex<Spec>, inputs: readonly Edge<Spec, R>[], options: SharedVertexOptions<Spec, R>) {
    this.vertex = vertex;
    this.inputs = inputs;
    this.op = options.op;
    this.caches = options.caches;
    this.now = options.now;
    this.#twins = options.twins;
    this.#lend = options.lend;
    this.#running = options.running;
    this.#leftovers = options.leftovers;
    this.#identity = this.memo(() => this.#findIdentity());
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

  get ignoreCache(): boolean {
    return this.vertex.options.ignoreCache;
  }

  edge(index: number): Edge<Spec, R> {
    let edge = this.edges.get(index);
    if (!edge) {
      edge = new Edge(this, index);
      this.edges.set(index, edge);
    }
    return edge;
  }

  /** Equal for vertexes that are defined alike, all the way down. */
  identity(): Promise<string> {
    return this.#identity.get();
  }

  /** The vertex that stands for `identity`. Follow it at once: it may be gone in the next moment. */
  standIn(identity: string): SharedVertex<Spec, R> {
    if (!this.#isWanted()) throw new Unwanted();
    if (!this.#standIn || this.#standIn.#released) this.#standIn = this.#twins.canonical(identity, this);
    return this.#standIn;
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

  /** What it does itself and what it waits for, inputs apart; for state dumps. */
  get doing(): readonly Activity[] {
    return this.#doing.list;
  }

  /** Keeps a claim on `lender` and its inputs for as long as `work` runs and this vertex is wanted. */
  async borrow<T>(lender: SharedVertex<Spec, R>, work: () => Promise<T>): Promise<T> {
    if (!this.#isWanted()) throw new Unwanted();
    const loan = this.#lend(lender, this);
    this.#borrowed.set(loan, lender);
    try {
      return await this.#doing.at(`waits for ${lender.vertex.name}`, work);
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

  /** Keys of output `index` once more are known, all of them; `fresh` where there are none. */
  addOutputKeys(index: number, known: readonly string[], fresh: () => string): readonly string[] {
    const all = [...new Set([...(this.#outputKeys[index] ?? []), ...known])];
    const keys = all.length > 0 ? all : [fresh()];
    this.#outputKeys[index] = keys;
    return keys;
  }

  /** Runs the step once all inputs are there and prepared. Outputs stay the vertex's: take clones. */
  exec(): Promise<Outputs<R>> {
    return this.#exec.get();
  }

  /** What it left when it failed, as far as that is kept. */
  get leftover(): ReturnType<Leftovers['of']> {
    return this.#leftovers.of(this);
  }

  get executed(): boolean {
    return this.#exec.settled !== undefined;
  }

  /** A handle of `result`, which this vertex holds, for the caller. */
  give(result: R | null): R | null {
    if (this.#released) throw new Unwanted();
    return result === null ? null : (result.clone() as R);
  }

  /** By what it was looked up so far, and whether it was made. */
  trace(): Pick<VertexTrace<Spec>, 'ran' | 'maps' | 'contents'> {
    const maps = this.#maps.flatMap((memo) => memo.settled?.value.map ?? []);
    return { ran: this.#ran, maps, contents: this.#contents.map((memo) => memo.settled?.value) };
  }

  /** A handle of `result`, which `from` holds, for this vertex to hold. */
  async take(from: SharedVertex<Spec, R>, result: R | null): Promise<R | null> {
    return this.hold(from.give(result));
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
    what: string,
    work: (context: OpContext) => Promise<T>,
    progress: VertexProgress = this.reporter,
  ): Promise<T> {
    if (!this.#isWanted()) throw new Unwanted();
    this.#abort ??= new AbortController();
    const { signal } = this.#abort;
    const keeper = () => this.#leftovers.keeper(this);
    const sessions = (): string[] => [...new Set([...this.owners].flatMap((owner) => owner.sessions))];
    try {
      return await this.#doing.at(what, () =>
        work({ signal, progress, sessions, vertex: this.vertex.digest, keeper }),
      );
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
    await this.#leftovers.drop(this);
  }

  async #callCacheMap(index: number): Promise<{ map: CacheMap<R>; done: boolean }> {
    // Only sources have something to show here: the look-ups of the others take no time.
    const show = this.vertex.inputs.length === 0 && index === 0;
    return this.guard(`finds cache key ${index}`, async (context) => {
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
    await this.#compute(
      `prepares input ${input}`,
      (context) => preprocess(value, context),
      edge.shared.reporter,
    );
  }

  async #findContent(input: number): Promise<Digest | undefined> {
    const { map } = await this.cacheMap(0);
    const contentKey = map.deps[input]?.contentKey;
    const edge = this.inputs[input];
    if (!contentKey || !edge) return undefined;
    const { value } = await edge.result();
    if (value === null) return digestOf('');
    await this.#prepared[input]?.get();
    return this.#compute(`looks at the content of input ${input}`, (context) => contentKey(value, context));
  }

  /** Looks at an input's result. A failure is shown at this vertex, which has not started yet. */
  #compute<T>(
    what: string,
    work: (context: OpContext) => Promise<T>,
    progress: VertexProgress = this.reporter,
  ): Promise<T> {
    return this.guard(
      what,
      async (context) => {
        try {
          return await work(context);
        } catch (error) {
          if (context.signal.aborted) throw error;
          this.started(false);
          this.reporter.complete(errorText(error, context.signal));
          throw BuildError.wrap(error, 'failed to compute cache key');
        }
      },
      progress,
    );
  }

  async #findIdentity(): Promise<string> {
    const { map } = await this.cacheMap(0);
    const inputs = await Promise.all(
      this.inputs.map(async ({ shared, index }) => [await shared.identity(), index]),
    );
    const selectors = map.deps.map((dep) => dep.selector ?? '');
    return digestOf(JSON.stringify([map.digest, inputs, selectors]));
  }

  async #callExec(): Promise<Outputs<R>> {
    const inputs = await Promise.all(this.inputs.map((input) => input.result()));
    await Promise.all(this.#prepared.map((prepared) => prepared.get()));
    const contents = await Promise.all(this.#contents.map((content) => content.get()));
    const { map } = await this.cacheMap(0);
    const keys = inputs.map(({ matches }, i) => {
      const selector = map.deps[i]?.selector ?? '';
      const content = contents[i];
      const byContent = content === undefined ? [] : [rootKey(content, CONTENT_OUTPUT)];
      return new Set([...matches.map((key) => `${key}\0${selector}`), ...byContent]);
    });
    if (!this.#isWanted()) throw new Unwanted(); // one that is gone must not stand for others
    const alike = this.inputs.length === 0 ? this : this.#twins.alike(map.digest, keys, this);
    if (alike !== this) return { outputs: await this.#copy(alike), cached: true };
    return { outputs: await this.#runOp(inputs.map(({ value }) => value)), cached: false };
  }

  /** The outputs of a vertex that runs the same step on the same contents. */
  async #copy(alike: SharedVertex<Spec, R>): Promise<readonly (R | null)[]> {
    const { outputs } = await this.borrow(alike, () => alike.exec());
    const copies = await this.#holdAll(outputs.map((output) => this.take(alike, output)));
    this.#outputKeys = alike.#outputKeys;
    this.started(true);
    this.reporter.complete();
    return copies;
  }

  async #runOp(inputs: readonly (R | null)[]): Promise<readonly (R | null)[]> {
    const outputs = await this.guard('runs', async (context) => {
      const place = { signal: context.signal, owners: () => [...this.owners] };
      using _place = await this.#doing.at('waits for its turn', async () => this.op.acquire?.(place));
      if (context.signal.aborted) throw new Unwanted();
      this.#ran = true;
      this.started(false);
      try {
        const made = await this.op.exec(inputs, context);
        this.reporter.complete();
        return made;
      } catch (error) {
        this.reporter.complete(errorText(error, context.signal));
        throw error;
      }
    });
    return this.#holdAll(outputs.map((output) => this.hold(output)));
  }

  /** All or nothing; what is held goes with the vertex. */
  async #holdAll(outputs: readonly Promise<R | null>[]): Promise<readonly (R | null)[]> {
    const settled = await Promise.allSettled(outputs);
    return settled.map((outcome) => {
      if (outcome.status === 'rejected') throw new Unwanted();
      return outcome.value;
    });
  }
}

function errorText(error: unknown, signal: AbortSignal): string {
  return signal.aborted || error instanceof Unwanted ? 'context canceled' : BuildError.from(error).message;
}
