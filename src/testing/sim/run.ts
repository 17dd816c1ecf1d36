// One seed: several jobs at once, then what a quiet rebuild must come to.
import { isCanceled } from '../../base/errors.ts';
import type { Job } from '../../solver/job.ts';
import type { Solver } from '../../solver/solver.ts';
import type { CacheImport } from '../../solver/sources.ts';
import type { VertexState } from '../../solver/types.ts';
import { Clock } from './clock.ts';
import { Model, type Node, textOf, type Variant } from './model.ts';
import { type Random, randomOf } from './random.ts';
import { type Chaos, Watch } from './watch.ts';
import { type Held, Store, World } from './world.ts';

export interface Outcome {
  readonly seed: number;
  readonly solved: number;
  readonly failed: number;
  readonly canceled: number;
  readonly execs: number;
  readonly loads: number;
  readonly turns: number;
  /** What happened, in order. */
  readonly events: readonly string[];
}

/** Simulates one seed. @throws naming the rule that was broken */
export async function simulate(seed: number): Promise<Outcome> {
  return new Simulation(seed).run();
}

class Simulation {
  readonly #seed: number;
  readonly #random: Random;
  readonly #clock = new Clock();
  readonly #model: Model;
  readonly #watch: Watch;
  readonly #world: World;
  readonly #store: Store;
  readonly #remote: Store;
  readonly #chaos: Chaos;
  #counts = { solved: 0, failed: 0, canceled: 0 };
  #jobs = 0;
  #isQuiet = false;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = randomOf(seed);
    this.#model = new Model(this.#random);
    this.#chaos = { ignores: this.#random(3) === 0, loses: this.#random(2) === 0 };
    this.#watch = new Watch(this.#clock, this.#model, this.#chaos);
    this.#world = new World(this.#clock, this.#model, this.#watch, this.#random(2) * (1 + this.#random(3)));
    this.#store = new Store(this.#clock, this.#random, this.#watch);
    this.#remote = new Store(this.#clock, this.#random, this.#watch);
  }

  async run(): Promise<Outcome> {
    try {
      await this.#clock.run(this.#together(), () => this.#watch.look());
      await this.#clock.run(this.#quiet(), () => this.#watch.look());
    } catch (error) {
      throw new Error(`seed ${this.#seed}: ${this.#watch.broken ?? String(error)}`, { cause: error });
    }
    const { execs, events } = this.#watch;
    const loads = this.#store.results.loads + this.#remote.results.loads;
    return { seed: this.#seed, ...this.#counts, execs, loads, turns: this.#clock.now, events };
  }

  /** Jobs that share, cancel, fail and leave at the same time. */
  async #together(): Promise<void> {
    const random = this.#random;
    const before = this.#world.solver(this.#remote);
    for (let i = random(3); i > 0; i--) {
      const node = this.#pick(new Set());
      if (!this.#endsWell(node)) continue;
      const open = this.#job(before);
      await this.#solve(open, node);
      await this.#close(open);
    }
    this.#store.results.failing = random(3) === 0 ? 2 + random(4) : 0;
    this.#remote.results.failing = random(3) === 0 ? 2 + random(4) : 0;
    const solver = this.#world.solver(this.#store);
    const jobs = Array.from({ length: 2 + random(4) }, () => this.#someJob(solver));
    for (let i = random(3); i > 0; i--)
      this.#clock.at(random(40), () => this.#isQuiet || this.#store.results.lose());
    await Promise.all(jobs);
    await this.#clock.sleep(10);
    this.#left(solver);
  }

  /** A job with a few solves, which may be given up, handed over, or closed under way. */
  async #someJob(solver: Solver<Node, Held>): Promise<void> {
    const random = this.#random;
    await this.#clock.sleep(random(25));
    const open = this.#job(solver);
    const imports = this.#imports();
    const solves = Array.from({ length: 1 + random(3) }, async () => {
      await this.#clock.sleep(random(8));
      const node = this.#pick(this.#ignoring());
      const abort = new AbortController();
      const fate = random(4);
      if (fate === 0) this.#clock.at(this.#clock.now + random(20), () => abort.abort());
      if (fate !== 1) return this.#solve(open, node, { abort, imports });
      // Gives up, and somebody else goes on in the same turn.
      const next = this.#pick(this.#ignoring());
      const first = this.#solve(open, node, { abort, imports });
      first.catch(() => {}); // told when it is awaited
      await this.#clock.sleep(random(12));
      const interest = this.#watch.wants(next, open.job.id);
      open.interests.add(interest);
      if (open.closed) this.#watch.leaves(interest);
      abort.abort();
      await first;
      await this.#solve(open, next, { imports });
      this.#watch.leaves(interest);
    });
    if (random(4) === 0) this.#clock.at(this.#clock.now + random(25), () => void this.#close(open));
    await Promise.all(solves);
    await this.#clock.sleep(random(3));
    await this.#close(open);
    this.#checkProgress(await open.progress);
  }

  #job(solver: Solver<Node, Held>): OpenJob {
    const id = `job${this.#jobs++}`;
    const limit = this.#random(4) === 0 ? { maxParallelism: 1 + this.#random(2) } : {};
    if (limit.maxParallelism) this.#watch.limits.set(id, limit.maxParallelism);
    const job = solver.createJob(id, { sessions: [`session of ${id}`], ...limit });
    return { job, closed: false, progress: statesOf(job), interests: new Set() };
  }

  async #close(open: OpenJob): Promise<void> {
    open.closed = true;
    for (const interest of open.interests) this.#watch.leaves(interest);
    await open.job.close();
  }

  /** Solves, and holds the outcome against the model. */
  async #solve(
    open: OpenJob,
    node: Node,
    how: { readonly abort?: AbortController; readonly imports?: readonly CacheImport<Held>[] } = {},
  ): Promise<boolean> {
    const { job } = open;
    const { signal } = how.abort ?? {};
    const output = this.#random(node.kind.outputs);
    const wanted = node.contents[output];
    const interest = this.#watch.wants(node, job.id);
    open.interests.add(interest);
    signal?.addEventListener('abort', () => this.#watch.leaves(interest));
    if (open.closed || signal?.aborted) this.#watch.leaves(interest);
    this.#watch.note(`${job.id} solves ${node.name}[${output}] of version ${node.variant.version}`);
    try {
      const { value } = await job.solve(
        { vertex: this.#model.vertex(node), index: output },
        signal,
        how.imports ?? [],
      );
      const text = value ? textOf(value.content) : 'nothing';
      await value?.release();
      this.#watch.note(`${job.id} has ${node.name}: ${text}`);
      if (!wanted || text !== textOf(wanted))
        this.#watch.fail(`${node.name} is ${text}, not ${wanted && textOf(wanted)}`);
      this.#counts.solved++;
      return true;
    } catch (error) {
      this.#watch.note(`${job.id} has no ${node.name}: ${String(error)}`);
      if (this.#watch.broken) throw error;
      const cut = open.closed || signal?.aborted === true;
      if (cut && isCanceled(error)) this.#counts.canceled++;
      else if (this.#mayFail(node, error)) this.#counts.failed++;
      else this.#watch.fail(`${node.name} of ${job.id} fails: ${String(error)}`);
      return false;
    } finally {
      this.#watch.leaves(interest);
    }
  }

  #mayFail(node: Node, error: unknown): boolean {
    const text = error instanceof Error ? error.message : String(error);
    return [...this.#model.reach(node)].some(({ kind }) => {
      if (kind.ending === 'well') return false;
      if (kind.ending === 'canceled') return isCanceled(error);
      return kind.ending === 'knot' ? text.includes('waits for itself') : text.endsWith(`${kind.name} fails`);
    });
  }

  #endsWell(node: Node): boolean {
    return [...this.#model.reach(node)].every(({ kind }) => kind.ending === 'well');
  }

  #pick(ignoring: ReadonlySet<number>): Node {
    const random = this.#random;
    const variant: Variant = { spelling: random(3), version: random(3), ignoring };
    // Mostly the last ones: they have the most to do.
    return this.#model.node(this.#model.size - 1 - random(random(2) === 0 ? 1 : this.#model.size), variant);
  }

  #ignoring(): ReadonlySet<number> {
    if (!this.#chaos.ignores || this.#random(2) === 0) return new Set();
    return new Set(Array.from({ length: 1 + this.#random(2) }, () => this.#random(this.#model.size)));
  }

  /** Caches from elsewhere: some late, some that cannot be had. */
  #imports(): readonly CacheImport<Held>[] {
    return Array.from({ length: this.#random(3) }, (_, i) => {
      const fails = this.#random(3) === 0;
      const sources = this.#clock
        .sleep(this.#random(15))
        .then(() => (fails ? [] : [this.#remote.imported()]));
      return { id: `cache ${fails} ${i}`, sources };
    });
  }

  /** Nothing of the jobs is left. */
  #left(solver: Solver<Node, Held>): void {
    const left = solver.dump();
    if (left.length > 0) this.#watch.fail(`edges are left: ${JSON.stringify(left)}`);
    if (this.#watch.running > 0) this.#watch.fail('an op runs on after all have left');
    const { running, waiting } = this.#world.slots.state;
    if (running.length + waiting.length > 0) this.#watch.fail('places are still taken or wanted');
    if (this.#watch.alive > 0) this.#watch.fail(`${this.#watch.alive} results are left`);
  }

  /** Builds again, in a daemon that has just started: runs nothing and loads one record. */
  async #quiet(): Promise<void> {
    this.#isQuiet = true;
    this.#store.results.failing = 0;
    this.#remote.results.failing = 0;
    for (let tries = 0; tries < 3; tries++) {
      const node = this.#pick(new Set());
      if (!this.#isPlain(node)) continue;
      this.#watch.keepsAll();
      await this.#freshly(node, this.#store);
      // Keys that come from several caches may meet only now.
      await this.#freshly(node, this.#store);
      await this.#again(node, this.#store);
      await this.#elsewhere(node);
      // What has changed but for its content is no reason to run what is made of it.
      this.#watch.keepsAll();
      for (const version of [0, 1, 2])
        await this.#freshly(this.#model.node(node.at, { ...node.variant, version }), this.#store);
    }
  }

  #isPlain(node: Node): boolean {
    return this.#endsWell(node) && [...this.#model.reach(node)].every(({ kind }) => !kind.passing);
  }

  async #again(node: Node, store: Store): Promise<void> {
    const { loads } = store.results;
    const { execs } = this.#watch;
    const outputs = await this.#freshly(node, store);
    if (this.#watch.execs !== execs) this.#watch.fail(`a rebuild of ${node.name} runs something`);
    if (store.results.loads - loads !== outputs)
      this.#watch.fail(`a rebuild of ${node.name} loads ${store.results.loads - loads} records`);
  }

  /** Builds in a solver of its own, all outputs of a node; gives how many there are. */
  async #freshly(node: Node, store: Store, imports: readonly CacheImport<Held>[] = []): Promise<number> {
    const solver = this.#world.solver(store);
    const open = this.#job(solver);
    const outputs = [...node.contents.keys()];
    await Promise.all(outputs.map((index) => this.#output(open, node, index, imports)));
    await this.#close(open);
    this.#left(solver);
    return outputs.length;
  }

  async #output(open: OpenJob, node: Node, index: number, imports: readonly CacheImport<Held>[]) {
    const interest = this.#watch.wants(node, open.job.id);
    const { value } = await open.job.solve({ vertex: this.#model.vertex(node), index }, undefined, imports);
    this.#watch.leaves(interest);
    const wanted = node.contents[index];
    if (!value || !wanted || textOf(value.content) !== textOf(wanted))
      this.#watch.fail(`${node.name} is wrong`);
    await value.release();
  }

  /** The same build in another daemon that imports this one's cache, which comes late: nothing runs, then or later. */
  async #elsewhere(node: Node): Promise<void> {
    const store = new Store(this.#clock, this.#random, this.#watch);
    const { execs } = this.#watch;
    const late = this.#clock.sleep(1 + this.#random(5)).then(() => [this.#store.imported()]);
    await this.#freshly(node, store, [{ id: 'late', sources: late }]);
    await this.#freshly(node, store);
    if (this.#watch.execs !== execs) this.#watch.fail(`${node.name} runs although an imported cache has it`);
    await this.#again(node, store);
  }

  /** What readers saw in the end: nothing is shown as running after the job has closed. */
  #checkProgress(states: ReadonlyMap<string, VertexState>): void {
    for (const { name, started, completed } of states.values()) {
      if (started !== undefined && completed === undefined) this.#watch.fail(`${name} is shown as running`);
      if (completed !== undefined && completed < (started ?? completed))
        this.#watch.fail(`${name} is shown to end before it starts`);
    }
  }
}

interface OpenJob {
  readonly job: Job<Node, Held>;
  closed: boolean;
  readonly progress: Promise<ReadonlyMap<string, VertexState>>;
  readonly interests: Set<ReturnType<Watch['wants']>>;
}

async function statesOf(job: Job<Node, Held>): Promise<ReadonlyMap<string, VertexState>> {
  const states = new Map<string, VertexState>();
  for await (const { vertexes } of job.status(new AbortController().signal))
    for (const state of vertexes) states.set(state.digest, state);
  return states;
}
