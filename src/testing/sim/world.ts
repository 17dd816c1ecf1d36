// The surroundings of a simulated solver: ops, results and caches, and what must never happen to them.
import { BuildError, canceled } from '../../base/errors.ts';
import { digestOf } from '../../base/digest.ts';
import { MemoryKeyStore, type KeyRecord } from '../../solver/keystore.ts';
import { Solver } from '../../solver/solver.ts';
import type { CacheSource, RecordPart } from '../../solver/sources.ts';
import { Slots } from '../../solver/slots.ts';
import type { CacheMap, Op, OpContext, PlaceRequest, Result, SolveFor } from '../../solver/types.ts';
import type { Clock } from './clock.ts';
import { type Content, type Model, type Node, partOf, textOf } from './model.ts';
import type { Random } from './random.ts';
import type { Watch } from './watch.ts';

/** A result with a count of its handles. */
export class Held implements Result {
  readonly content: Content;
  readonly #watch: Watch;
  #released = false;

  constructor(content: Content, watch: Watch) {
    this.content = content;
    this.#watch = watch;
    watch.alive++;
  }

  clone(): Held {
    if (this.#released) this.#watch.fail('a released result is cloned');
    return new Held(this.content, this.#watch);
  }

  async release(): Promise<void> {
    if (this.#released) this.#watch.fail('a result is released twice');
    this.#released = true;
    this.#watch.alive--;
  }
}

/** Kept results, whose loads take time and may fail. */
export class Shelf {
  readonly contents = new Map<string, Content>();
  loads = 0;
  #saved = 0;
  /** One load in so many fails; 0 = none. */
  failing = 0;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #watch: Watch;

  constructor(clock: Clock, random: Random, watch: Watch) {
    this.#clock = clock;
    this.#random = random;
    this.#watch = watch;
  }

  save(result: Held): string {
    const id = `r${this.#saved++}-${textOf(result.content)}`;
    this.contents.set(id, result.content);
    return id;
  }

  exists(id: string): boolean {
    return this.contents.has(id);
  }

  async load(id: string, context: { readonly signal: AbortSignal }): Promise<Held> {
    this.loads++;
    const fails = this.failing > 0 && this.#random(this.failing) === 0;
    await this.#clock.sleep(this.#random(3));
    context.signal.throwIfAborted();
    const content = this.contents.get(id);
    if (!content || fails) throw new BuildError(`record ${id} is broken`);
    this.#watch.note(`load ${id}`);
    return new Held(content, this.#watch);
  }

  /** Loses a result, as a prune does. */
  lose(): void {
    const ids = [...this.contents.keys()];
    const id = ids[this.#random(ids.length)];
    if (id !== undefined) this.contents.delete(id);
  }
}

/** A cache with its results. */
export class Store implements CacheSource<Held> {
  readonly keys = new MemoryKeyStore();
  readonly results: Shelf;

  constructor(clock: Clock, random: Random, watch: Watch) {
    this.results = new Shelf(clock, random, watch);
  }

  /** The store as an imported cache: gives what lies below a record along with it. */
  imported(): CacheSource<Held> {
    const { keys, results } = this;
    const parts = async (record: KeyRecord, context: OpContext): Promise<RecordPart<Held>[]> => {
      const below = keys.backlinks(record.key).flatMap(({ from }) => keys.records(from));
      const known = below.filter(({ resultId }) => results.exists(resultId)).slice(0, 2);
      const loaded = await Promise.allSettled(
        known.map(async (part) => ({ record: part, result: await results.load(part.resultId, context) })),
      );
      return loaded.flatMap((part) => (part.status === 'fulfilled' ? [part.value] : []));
    };
    return {
      keys,
      results: {
        load: (id, context) => results.load(id, context),
        exists: (id) => results.exists(id),
        parts: (record, context) => parts(record, context as OpContext),
      },
    };
  }
}

/** The runnable step of a node. */
class SimOp implements Op<Held> {
  readonly #node: Node;
  readonly #world: World;
  readonly #solve: SolveFor<Node, Held>;

  constructor(node: Node, world: World, solve: SolveFor<Node, Held>) {
    this.#node = node;
    this.#world = world;
    this.#solve = solve;
  }

  async cacheMap(index: number, context: OpContext): Promise<{ map: CacheMap<Held>; done: boolean }> {
    const { kind, seeds } = this.#node;
    const { watch } = this.#world;
    watch.maps++;
    await this.#work(context, kind.mapTicks);
    if (kind.ending === 'map fails') throw new BuildError(`${kind.name} fails`);
    const deps = kind.inputs.map(({ selector, content, preprocess }) => ({
      selector,
      ...(content ? { contentKey: (input: Held, c: OpContext) => this.#hash(input, selector, c) } : {}),
      ...(preprocess ? { preprocess: (_input: Held, c: OpContext) => this.#work(c, 1) } : {}),
    }));
    const text = digestOf(seeds[index] ?? '');
    const digest = kind.passing ? (`random:${text.slice('sha256:'.length)}` as typeof text) : text;
    return { map: { digest, deps }, done: index === seeds.length - 1 };
  }

  async acquire({ owners, signal }: PlaceRequest): Promise<Disposable> {
    // What waits for other steps while it runs takes no place, which those may need.
    if (this.#world.model.found(this.#node)) return { [Symbol.dispose]: () => {} };
    return this.#world.slots.acquire({ name: this.#node.name, owners }, signal);
  }

  async exec(inputs: readonly (Held | null)[], context: OpContext): Promise<readonly Held[]> {
    const { kind, contents } = this.#node;
    const { watch } = this.#world;
    using _running = watch.runs(this.#node, context);
    watch.holdsPlaces(this.#world.slots.state);
    for (const [i, input] of inputs.entries()) this.#check(input, i);
    await this.#work(context, kind.execTicks);
    if (kind.ending === 'fails') throw new BuildError(`${kind.name} fails`);
    if (kind.ending === 'canceled') throw canceled();
    const found = this.#world.model.found(this.#node);
    if (!found) return contents.map((content) => new Held(content, watch));
    const value = await this.#solve({ vertex: this.#world.model.vertex(found), index: 0 });
    if (!value) return watch.fail('a found graph gives nothing');
    return [value, ...contents.slice(1).map(() => value.clone())];
  }

  /** Inputs hold what the step counts on. */
  #check(input: Held | null, i: number): void {
    const from = this.#node.inputs[i];
    const wanted = from?.node.contents[from.output];
    const selector = this.#node.kind.inputs[i]?.content ? (this.#node.kind.inputs[i]?.selector ?? '') : '';
    if (!input || !wanted || partOf(input.content, selector) !== partOf(wanted, selector))
      this.#world.watch.fail(`${this.#node.name} gets ${input ? textOf(input.content) : 'nothing'}`);
  }

  async #hash(input: Held, selector: 'a' | 'b' | '', context: OpContext) {
    await this.#work(context, 1);
    if (this.#node.kind.ending === 'hash fails') throw new BuildError(`${this.#node.kind.name} fails`);
    return digestOf(partOf(input.content, selector));
  }

  /** Takes its time; told to end, it takes the time that it needs for that. */
  async #work({ signal }: OpContext, ticks: number): Promise<void> {
    const { clock } = this.#world;
    for (let tick = 0; tick < ticks && !signal.aborted; tick++) await clock.sleep(1);
    if (!signal.aborted) return;
    await clock.sleep(this.#node.kind.deafTicks);
    throw signal.reason;
  }
}

/** Everything around the solvers of one seed. */
export class World {
  readonly clock: Clock;
  readonly model: Model;
  readonly watch: Watch;
  readonly slots: Slots;

  /** @param places how many steps run at once; 0 = no limit */
  constructor(clock: Clock, model: Model, watch: Watch, places: number) {
    this.slots = new Slots(places);
    this.clock = clock;
    this.model = model;
    this.watch = watch;
  }

  solver(store: Store): Solver<Node, Held> {
    return new Solver<Node, Held>({
      keys: store.keys,
      results: store.results,
      now: () => this.clock.now,
      resolveOp: (vertex, solve) => new SimOp(vertex.spec, this, solve),
    });
  }
}
