import { randomUUID } from 'node:crypto';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { CONTENT_OUTPUT, type KeyLink, type KeyRecord, type KeyStore, rootKey } from './keystore.ts';
import { Memo, Unwanted } from './memo.ts';
import type { SharedVertex } from './shared-vertex.ts';
import type { CacheMap, Result } from './types.ts';

/** Kept results by id. */
export interface ResultStore<R extends Result> {
  /** Keeps `result` and names it. */
  save(result: R): string;
  /** A handle of a kept result, owned by the caller. @throws when it is gone or damaged. */
  load(id: string): Promise<R>;
}

/** What edges share: the cache, and the index of what is being solved. */
export interface EdgeEnvironment<Spec, R extends Result> {
  readonly keys: KeyStore;
  readonly results: ResultStore<R>;
  /** The edge that stands for this identity: `edge` itself, or one that was there before (FEATURES E16). */
  readonly canonical: (identity: string, edge: Edge<Spec, R>) => Edge<Spec, R>;
  /** Keeps `edge`'s graph wanted and alive while `work` runs, on behalf of the owners of `by`. */
  readonly onBehalfOf: <T>(
    by: SharedVertex<Spec, R>,
    edge: Edge<Spec, R>,
    work: () => Promise<T>,
  ) => Promise<T>;
}

/** A solved edge. `value` null is the empty tree. */
export interface EdgeResult<R> {
  readonly value: R | null;
  /** Keys under which consumers find what they made of it. */
  readonly keys: readonly string[];
  readonly cached: boolean;
}

type Keys = readonly string[];

/**
 * One output of a vertex, asked dearer and dearer questions: what am I, which keys follow from definitions,
 * which from content, and at last the result (FEATURES E15). Each answer is remembered.
 */
export class Edge<Spec, R extends Result> {
  readonly shared: SharedVertex<Spec, R>;
  readonly index: number;
  readonly #inputs: readonly Edge<Spec, R>[];
  readonly #env: EdgeEnvironment<Spec, R>;
  readonly #identity = new Memo(() => this.#findIdentity());
  readonly #fast = new Memo(() => this.#findFast());
  readonly #slow = new Memo(() => this.#findSlow());
  readonly #content: readonly Memo<Digest | undefined>[];
  readonly #prepared: readonly Memo<void>[];
  readonly #result = new Memo(() => this.#solve());

  constructor(
    shared: SharedVertex<Spec, R>,
    index: number,
    inputs: readonly Edge<Spec, R>[],
    env: EdgeEnvironment<Spec, R>,
  ) {
    this.shared = shared;
    this.index = index;
    this.#inputs = inputs;
    this.#env = env;
    this.#content = inputs.map((_, input) => new Memo(() => this.#findContent(input)));
    this.#prepared = inputs.map((_, input) => new Memo(() => this.#prepare(input)));
  }

  get ignoreCache(): boolean {
    return this.shared.vertex.options.ignoreCache;
  }

  identity(): Promise<string> {
    return this.#identity.get();
  }

  /** Keys that follow from the definition alone; the final ones once the edge is solved. */
  fastKeys(): Promise<Keys> | Keys {
    return this.#result.settled?.value.keys ?? this.#fast.get();
  }

  slowKeys(): Promise<Keys> | Keys {
    return this.#result.settled?.value.keys ?? this.#slow.get();
  }

  /** The value stays owned by the edge. */
  result(): Promise<EdgeResult<R>> {
    return this.#result.get();
  }

  /** Which question the edge is at, for state dumps. */
  get stage(): string {
    if (this.#result.settled) return 'done';
    const open = [
      ['result', this.#result],
      ['slow keys', this.#slow],
      ['fast keys', this.#fast],
      ['identity', this.#identity],
    ] as const;
    return open.find(([, memo]) => memo.running)?.[0] ?? 'not asked';
  }

  /** Lets go of the value, also of one that is still on its way. */
  async release(): Promise<void> {
    if (!this.#result.running && !this.#result.settled) return;
    const result = await this.#result.get().catch(() => undefined); // a failed edge holds nothing
    await result?.value?.release();
  }

  async #findIdentity(): Promise<string> {
    const { map } = await this.shared.cacheMap(0);
    const inputs = await Promise.all(this.#inputs.map((input) => input.identity()));
    const selectors = map.deps.map((dep) => dep.selector ?? '');
    return digestOf(JSON.stringify([map.digest, this.index, inputs, selectors]));
  }

  async #findFast(): Promise<Keys> {
    const { map } = await this.shared.cacheMap(0);
    if (this.#inputs.length === 0) return [rootKey(map.digest, this.index)];
    if (this.ignoreCache) return [];
    const candidates = await Promise.all(
      this.#inputs.map(async (input, i) => this.#query(map, i, await input.fastKeys())),
    );
    return intersect(candidates);
  }

  async #findSlow(): Promise<Keys> {
    const fast = await this.fastKeys();
    if (this.#inputs.length === 0) return this.#allRootKeys(fast);
    if (fast.length > 0 || this.ignoreCache) return fast;
    const { map } = await this.shared.cacheMap(0);
    const candidates = await Promise.all(
      this.#inputs.map(async (input, i) => new Set(this.#query(map, i, await input.fastKeys()))),
    );
    // First only the inputs that match nothing so far; one that cannot match settles the matter.
    const missing = candidates.flatMap((keys, i) => (keys.size === 0 ? [i] : []));
    if (!(await allTrue(missing.map((i) => this.#deepen(map, i, candidates[i]!))))) return [];
    let keys = intersect(candidates.map((set) => [...set]));
    for (let i = 0; i < candidates.length && keys.length === 0; i++) {
      for (const key of this.#query(map, i, await this.#inputs[i]!.slowKeys())) candidates[i]!.add(key);
      keys = intersect(candidates.map((set) => [...set]));
      if (keys.length > 0) break;
      await this.#addContentKeys(map, i, candidates[i]!);
      keys = intersect(candidates.map((set) => [...set]));
    }
    return keys;
  }

  /** Sources may say more of themselves at a price: further cache maps give further keys. */
  async #allRootKeys(first: Keys): Promise<Keys> {
    const keys = [...first];
    for (let index = 0, done = (await this.shared.cacheMap(0)).done; !done; ) {
      index++;
      const next = await this.shared.cacheMap(index);
      keys.push(rootKey(next.map.digest, this.index));
      done = next.done;
    }
    return keys;
  }

  /** Looks for matches of an input that had none; false when there can be none. */
  async #deepen(map: CacheMap<R>, input: number, candidates: Set<string>): Promise<boolean> {
    for (const key of this.#query(map, input, await this.#inputs[input]!.slowKeys())) candidates.add(key);
    if (candidates.size === 0) await this.#addContentKeys(map, input, candidates);
    return candidates.size > 0;
  }

  async #addContentKeys(map: CacheMap<R>, input: number, candidates: Set<string>): Promise<void> {
    const content = await this.#content[input]!.get();
    if (content === undefined) return;
    const { keys } = await this.#inputs[input]!.result();
    for (const key of this.#query(map, input, keys)) candidates.add(key);
    const contentLink = { input, output: this.index, digest: map.digest, selector: '' };
    for (const key of this.#env.keys.query(rootKey(content, CONTENT_OUTPUT), contentLink)) {
      candidates.add(key);
      // Next time the cheap question finds it.
      for (const known of keys) this.#env.keys.link(known, this.#link(map, input), key);
    }
  }

  async #findContent(input: number): Promise<Digest | undefined> {
    const { map } = await this.shared.cacheMap(0);
    const contentKey = map.deps[input]?.contentKey;
    if (!contentKey) return undefined;
    const { value } = await this.#inputs[input]!.result();
    if (value === null) return digestOf('');
    await this.#prepared[input]!.get();
    return this.shared.guard(async (context) => {
      try {
        return await contentKey(value, context);
      } catch (error) {
        throw context.signal.aborted ? error : BuildError.wrap(error, 'failed to compute cache key');
      }
    });
  }

  async #prepare(input: number): Promise<void> {
    const { map } = await this.shared.cacheMap(0);
    const preprocess = map.deps[input]?.preprocess;
    const { value } = await this.#inputs[input]!.result();
    if (!preprocess || value === null) return;
    const shared = this.#inputs[input]!.shared;
    await this.shared.guard((context) => preprocess(value, { ...context, progress: shared.reporter }));
  }

  async #solve(): Promise<EdgeResult<R>> {
    const twin = this.#env.canonical(await this.identity(), this);
    if (twin !== this) return this.#follow(twin);
    return (await this.#lookUp()) ?? (await this.#run());
  }

  async #follow(twin: Edge<Spec, R>): Promise<EdgeResult<R>> {
    const { value, keys } = await this.#env.onBehalfOf(this.shared, twin, () => twin.result());
    this.shared.started(true);
    this.shared.reporter.complete();
    return { value: value === null ? null : (value.clone() as R), keys, cached: true };
  }

  async #lookUp(): Promise<EdgeResult<R> | undefined> {
    if (this.ignoreCache) return undefined;
    const failed = new Set<string>();
    for (const keys of [await this.fastKeys(), await this.slowKeys()]) {
      const records = keys
        .flatMap((key) => this.#env.keys.records(key))
        .sort((a, b) => b.createdAt - a.createdAt)
        .filter((record) => !failed.has(record.resultId));
      for (const record of records) {
        const value = await this.#load(record);
        if (value) return { value, keys: unite([record.key], keys), cached: true };
        failed.add(record.resultId);
      }
    }
    return undefined;
  }

  /** A record that does not load is a miss, and forgotten when its result is gone. */
  async #load(record: KeyRecord): Promise<R | undefined> {
    try {
      const value = await this.#env.results.load(record.resultId);
      if (!this.shared.executed) {
        this.shared.started(true);
        this.shared.reporter.complete();
      }
      return value;
    } catch (error) {
      if (error instanceof Unwanted) throw error;
      this.#env.keys.releaseResult(record.resultId);
      return undefined;
    }
  }

  async #run(): Promise<EdgeResult<R>> {
    const { map } = await this.shared.cacheMap(0);
    const inputs = await Promise.all(this.#inputs.map((input) => input.result()));
    await Promise.all(this.#prepared.map((prepared) => prepared.get()));
    const contents = await Promise.all(this.#content.map((content) => content.get()));
    const outputs = await this.shared.exec(inputs.map((input) => input.value));
    const output = outputs[this.index];
    if (output === undefined) {
      throw new BuildError(`output ${this.index} of ${this.shared.vertex.name} does not exist`);
    }
    const value = output === null ? null : (output.clone() as R);
    const keys = await this.#save(map, inputs, contents, value);
    return { value, keys, cached: false };
  }

  /** Links the inputs' keys to the key of this edge and records the result on it. */
  async #save(
    map: CacheMap<R>,
    inputs: readonly EdgeResult<R>[],
    contents: readonly (Digest | undefined)[],
    value: R | null,
  ): Promise<Keys> {
    const { keys } = this.#env;
    let own: Keys;
    if (inputs.length === 0) {
      own = await this.slowKeys();
    } else {
      const ways = inputs.map((input, i) => this.#ways(map, i, input.keys, contents[i]));
      const known = intersect(ways.map((way) => way.flatMap(({ from, link }) => keys.query(from, link))));
      const passing = ways.some((way) => way.every(({ from }) => from.startsWith('random:')));
      own = known.length > 0 ? known : [`${passing ? 'random:' : ''}${randomUUID()}`];
      for (const { from, link } of ways.flat()) keys.link(from, link, own[0]!);
    }
    if (value !== null && own[0] !== undefined && this.#worthKeeping(own[0])) {
      keys.addRecord({ key: own[0], resultId: this.#env.results.save(value), createdAt: Date.now() });
    }
    return own;
  }

  /** What hangs on a passing key alone can never be found again. */
  #worthKeeping(key: string): boolean {
    return !key.startsWith('random:');
  }

  #ways(
    map: CacheMap<R>,
    input: number,
    inputKeys: Keys,
    content: Digest | undefined,
  ): { from: string; link: KeyLink }[] {
    const ways = inputKeys.map((from) => ({ from, link: this.#link(map, input) }));
    if (content !== undefined) {
      const link = { input, output: this.index, digest: map.digest, selector: '' };
      ways.push({ from: rootKey(content, CONTENT_OUTPUT), link });
    }
    return ways;
  }

  #query(map: CacheMap<R>, input: number, inputKeys: Keys): string[] {
    const link = this.#link(map, input);
    return inputKeys.flatMap((from) => [...this.#env.keys.query(from, link)]);
  }

  #link(map: CacheMap<R>, input: number): KeyLink {
    return { input, output: this.index, digest: map.digest, selector: map.deps[input]?.selector ?? '' };
  }
}

function intersect(sets: readonly Keys[]): string[] {
  const [first, ...rest] = sets;
  if (!first) return [];
  const others = rest.map((keys) => new Set(keys));
  return [...new Set(first)].filter((key) => others.every((set) => set.has(key)));
}

/** False as soon as one is; the others go on for whoever else asks. */
function allTrue(questions: readonly Promise<boolean>[]): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let open = questions.length;
    if (open === 0) resolve(true);
    const settle = (answer: boolean): void => {
      if (!answer || --open === 0) resolve(answer);
    };
    for (const question of questions) question.then(settle, reject);
  });
}

function unite(a: Keys, b: Keys): Keys {
  return [...new Set([...a, ...b])];
}
