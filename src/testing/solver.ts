import assert from 'node:assert/strict';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { MemoryKeyStore } from '../solver/keystore.ts';
import { Solver } from '../solver/solver.ts';
import type { CacheSource } from '../solver/sources.ts';
import type { CacheMap, Op, OpContext, Result, SolveFor, Vertex } from '../solver/types.ts';

/** Results alive; every test ends with none. */
let alive = 0;

/** Asserts that every result was released. */
export function assertNoneAlive(): void {
  assert.equal(alive, 0, 'results left over');
}

export class Value implements Result {
  readonly value: string;
  #released = false;
  constructor(value: string) {
    this.value = value;
    alive++;
  }
  clone(): Value {
    assert.ok(!this.#released, 'clone of a released result');
    return new Value(this.value);
  }
  async release(): Promise<void> {
    assert.ok(!this.#released, 'released twice');
    this.#released = true;
    alive--;
  }
}

export interface Step {
  readonly name: string;
  readonly seed: string;
  readonly inputs: readonly Step[];
  readonly value?: string;
  readonly content?: readonly boolean[];
  readonly selectors?: readonly string[];
  readonly ignoreCache?: boolean;
  readonly variant?: string;
  readonly beforeMap?: (context: OpContext) => Promise<void>;
  /** Digest of an input's value; made of the value when absent. */
  readonly hash?: (value: string) => Promise<Digest>;
  readonly beforeExec?: (context: OpContext) => Promise<void>;
  readonly combine?: (inputs: readonly string[]) => string;
  /** Which output of each input is used; the first when absent. */
  readonly uses?: readonly number[];
  /** One value per output, of a step with several. */
  readonly outputs?: (inputs: readonly string[]) => readonly string[];
  /** Another graph that the step solves while it runs; its value is the step's. */
  readonly found?: () => Step;
  /** Instead of the digest made of the seed. */
  readonly mapDigest?: string;
  /** Seeds of further cache maps. */
  readonly moreSeeds?: readonly (() => string)[];
  readonly counts: { map: number; exec: number };
}

let serial = 0;
export function step(options: Partial<Omit<Step, 'counts'>> = {}): Step {
  const name = options.name ?? `step${serial++}`;
  return { name, seed: options.seed ?? name, inputs: [], ...options, counts: { map: 0, exec: 0 } };
}

class StepOp implements Op<Value> {
  readonly #step: Step;
  readonly #solve: SolveFor<Step, Value>;
  constructor(step: Step, solve: SolveFor<Step, Value>) {
    this.#step = step;
    this.#solve = solve;
  }
  async cacheMap(index: number, context: OpContext): Promise<{ map: CacheMap<Value>; done: boolean }> {
    this.#step.counts.map++;
    const more = this.#step.moreSeeds ?? [];
    const seed = index === 0 ? this.#step.seed : more[index - 1]?.();
    await this.#step.beforeMap?.(context);
    const deps = this.#step.inputs.map((_, i) => ({
      selector: this.#step.selectors?.[i] ?? '',
      ...(this.#step.content?.[i]
        ? { contentKey: async (v: Value) => this.#step.hash?.(v.value) ?? digestOf(`content ${v.value}`) }
        : {}),
    }));
    const digest = (this.#step.mapDigest as Digest | undefined) ?? digestOf(`map ${seed}`);
    return { map: { digest, deps }, done: index === more.length };
  }
  async exec(inputs: readonly (Value | null)[], context: OpContext): Promise<readonly Value[]> {
    this.#step.counts.exec++;
    await this.#step.beforeExec?.(context);
    context.signal.throwIfAborted();
    if (this.#step.found) {
      const value = await this.#solve({ vertex: vertexOf(this.#step.found()), index: 0 });
      return [value ?? new Value('scratch')];
    }
    const values = inputs.map((v) => v?.value ?? '');
    if (this.#step.outputs) return this.#step.outputs(values).map((value) => new Value(value));
    return [new Value(this.#step.combine?.(values) ?? this.#step.value ?? this.#step.name)];
  }
}

export function vertexOf(root: Step): Vertex<Step> {
  const made = new Map<Step, Vertex<Step>>();
  const stack = [root];
  while (stack.length > 0) {
    const next = stack.at(-1)!;
    const open = next.inputs.filter((i) => !made.has(i));
    if (open.length > 0) {
      stack.push(...open);
      continue;
    }
    stack.pop();
    if (made.has(next)) continue;
    const inputs = next.inputs.map((i, at) => ({ vertex: made.get(i)!, index: next.uses?.[at] ?? 0 }));
    made.set(next, {
      digest: digestOf(JSON.stringify([next.name, next.seed, inputs.map((i) => [i.vertex.digest, i.index])])),
      ...(next.variant === undefined ? {} : { variant: next.variant }),
      name: next.name,
      inputs,
      options: { ignoreCache: next.ignoreCache ?? false, description: {} },
      spec: next,
    });
  }
  return made.get(root)!;
}

/** Kept results, with a count of loads. */
export class Kept {
  readonly values = new Map<string, string>();
  loads = 0;
  failing = false;
  missing = new Set<string>();
  save(result: Value): string {
    const id = `result${this.values.size}`;
    this.values.set(id, result.value);
    return id;
  }
  exists(id: string): boolean {
    return !this.missing.has(id);
  }
  async load(id: string): Promise<Value> {
    this.loads++;
    const value = this.values.get(id);
    if (value === undefined || this.failing) throw new BuildError('gone');
    return new Value(value);
  }
}

export function world(imported: readonly CacheSource<Value>[] = []) {
  const imports = [{ id: 'imported', sources: Promise.resolve(imported) }];
  const keys = new MemoryKeyStore();
  const results = new Kept();
  /** Names of vertexes that were there already when asked for. */
  const joined: string[] = [];
  const make = () =>
    new Solver<Step, Value>({
      keys,
      results,
      resolveOp: (vertex, solve) => new StepOp(vertex.spec, solve),
      joined: (_op, vertex) => joined.push(vertex.spec.name),
    });
  const solver = make();
  let jobs = 0;
  const build = async (root: Step, signal?: AbortSignal, on = make()): Promise<string> => {
    await using job = on.createJob(`job${jobs++}`, { sessions: [] });
    const { value } = await job.solve({ vertex: vertexOf(root), index: 0 }, signal, imports);
    const text = value?.value ?? 'scratch';
    await value?.release();
    return text;
  };
  return { keys, results, joined, imports, solver, make, build };
}

export function totals(root: Step): { map: number; exec: number } {
  const seen = new Set<Step>([root]);
  for (const s of seen) for (const input of s.inputs) seen.add(input);
  return [...seen].reduce((t, s) => ({ map: t.map + s.counts.map, exec: t.exec + s.counts.exec }), {
    map: 0,
    exec: 0,
  });
}
