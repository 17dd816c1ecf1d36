import { randomUUID } from 'node:crypto';
import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { isPassing, rootKey } from './keystore.ts';
import { CONTENT_OUTPUT } from './keystore.ts';
import { intersect, KeySearch } from './key-search.ts';
import type { Memo } from './memo.ts';
import { Unwanted } from './memo.ts';
import type { SharedVertex } from './shared-vertex.ts';
import type { FoundRecord } from './sources.ts';
import type { Result } from './types.ts';

/** What edges share: the index of what is being solved. */
export interface EdgeEnvironment<Spec, R extends Result> {
  /** The edge that stands for this identity: `edge` itself, or one that was there before (FEATURES E16). */
  readonly canonical: (identity: string, edge: Edge<Spec, R>) => Edge<Spec, R>;
  /** Keeps `edge` and its inputs wanted, and owned by the owners of `by`. */
  readonly lend: (edge: Edge<Spec, R>, by: SharedVertex<Spec, R>) => Disposable;
}

/** A solved edge. `value` null is the empty tree. */
export interface EdgeResult<R> {
  /** Owned by the edge. */
  readonly value: R | null;
  /** Where the result stands in the cache graph. */
  readonly keys: readonly string[];
  /** Keys under which consumers may find what they made of it; none when it was made to ignore the cache. */
  readonly matches: readonly string[];
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
  readonly #env: EdgeEnvironment<Spec, R>;
  readonly #search: KeySearch<Spec, R>;
  readonly #identity: Memo<string>;
  readonly #fast: Memo<Keys>;
  readonly #slow: Memo<Keys>;
  readonly #result: Memo<EdgeResult<R>>;
  #identityText: string | undefined;

  constructor(shared: SharedVertex<Spec, R>, index: number, env: EdgeEnvironment<Spec, R>) {
    this.shared = shared;
    this.index = index;
    this.#env = env;
    this.#search = new KeySearch(shared, index);
    this.#identity = shared.memo(() => this.#findIdentity());
    this.#fast = shared.memo(() => this.#findFast());
    this.#slow = shared.memo(() => this.#findSlow());
    this.#result = shared.memo(() => this.#solve());
  }

  get ignoreCache(): boolean {
    return this.shared.vertex.options.ignoreCache;
  }

  /** Name under which twins find each other, once it is known. */
  get identityText(): string | undefined {
    return this.#identityText;
  }

  identity(): Promise<string> {
    return this.#identity.get();
  }

  /** Keys that follow from the definition alone; the final ones once the edge is solved. */
  fastKeys(): Promise<Keys> | Keys {
    return this.#result.settled?.value.matches ?? this.#fast.get();
  }

  slowKeys(): Promise<Keys> | Keys {
    return this.#result.settled?.value.matches ?? this.#slow.get();
  }

  result(): Promise<EdgeResult<R>> {
    return this.#result.get();
  }

  /** Where this edge is known to stand in the cache graph so far. */
  get knownKeys(): ReadonlySet<string> {
    const result = this.#result.settled?.value.keys ?? [];
    return new Set([...result, ...(this.#fast.settled?.value ?? []), ...(this.#slow.settled?.value ?? [])]);
  }

  /** The result, once it is there. */
  get value(): R | null {
    return this.#result.settled?.value.value ?? null;
  }

  /** Which question the edge is at, for state dumps. */
  get stage(): string {
    if (this.#result.settled) return 'done';
    const open = [
      ['slow keys', this.#slow],
      ['fast keys', this.#fast],
      ['identity', this.#identity],
      ['result', this.#result],
    ] as const;
    return open.find(([, memo]) => memo.running)?.[0] ?? 'not asked';
  }

  async #findIdentity(): Promise<string> {
    const { map } = await this.shared.cacheMap(0);
    const inputs = await Promise.all(this.shared.inputs.map((input) => input.identity()));
    const selectors = map.deps.map((dep) => dep.selector ?? '');
    this.#identityText = digestOf(JSON.stringify([map.digest, this.index, inputs, selectors]));
    return this.#identityText;
  }

  async #findFast(): Promise<Keys> {
    if (this.ignoreCache) return [];
    if (this.shared.inputs.length > 0) return this.#search.fast();
    const { map } = await this.shared.cacheMap(0);
    return [rootKey(map.digest, this.index)];
  }

  async #findSlow(): Promise<Keys> {
    if (this.ignoreCache) return [];
    if (this.shared.inputs.length === 0) return this.#rootKeys();
    const fast = await this.fastKeys();
    return fast.length > 0 ? fast : this.#search.deep((keys) => keys.length > 0);
  }

  /** Sources may say more of themselves at a price: each cache map gives a key. */
  async #rootKeys(): Promise<Keys> {
    const keys: string[] = [];
    for (let index = 0, done = false; !done; index++) {
      const next = await this.shared.cacheMap(index);
      keys.push(rootKey(next.map.digest, this.index));
      done = next.done;
    }
    return keys;
  }

  async #solve(): Promise<EdgeResult<R>> {
    const twin = this.#env.canonical(await this.identity(), this);
    if (twin !== this) return this.#follow(twin);
    return (await this.#lookUp()) ?? (await this.#run());
  }

  async #follow(twin: Edge<Spec, R>): Promise<EdgeResult<R>> {
    const solved = await this.shared.borrow(twin.shared, this.#env.lend(twin, this.shared), () =>
      twin.result(),
    );
    const value = await this.shared.take(twin.shared, solved.value);
    this.shared.started(true);
    this.shared.reporter.complete();
    return { ...solved, value, cached: true };
  }

  async #lookUp(): Promise<EdgeResult<R> | undefined> {
    if (this.ignoreCache) return undefined;
    const failed = new Set<string>();
    const fresh = (keys: Keys): FoundRecord<R>[] =>
      this.shared.caches.records(keys).filter((record) => !failed.has(record.resultId));
    const fast = await this.fastKeys();
    await this.shared.caches.ready();
    const found = await this.#loadFirst(fast, fresh, failed);
    if (found) return found;
    const deep =
      this.shared.inputs.length === 0
        ? await this.slowKeys()
        : await this.#search.deep((keys) => fresh(keys).length > 0);
    return this.#loadFirst(deep, fresh, failed);
  }

  async #loadFirst(
    keys: Keys,
    fresh: (keys: Keys) => FoundRecord<R>[],
    failed: Set<string>,
  ): Promise<EdgeResult<R> | undefined> {
    for (const record of fresh(keys)) {
      if (failed.has(record.resultId)) continue;
      const value = await this.#load(record);
      if (value) {
        const all = [...new Set([record.key, ...keys])];
        return { value, keys: all, matches: all, cached: true };
      }
      failed.add(record.resultId);
    }
    return undefined;
  }

  /** A record that does not load is a miss for this edge and shown as such; it stays in its cache. */
  async #load(record: FoundRecord<R>): Promise<R | undefined> {
    const { shared } = this;
    return shared.guard(async (context) => {
      // A vertex that ran for another output is not cached.
      const show = !shared.executed;
      if (show) shared.started(true);
      try {
        const value = await shared.hold(await record.source.results.load(record.resultId, context));
        await shared.caches.adopt(record, value, context);
        if (show) shared.reporter.complete();
        return value;
      } catch (error) {
        if (error instanceof Unwanted || context.signal.aborted) throw error;
        if (show) shared.reporter.complete(BuildError.from(error).message);
        return undefined;
      }
    });
  }

  async #run(): Promise<EdgeResult<R>> {
    const { map } = await this.shared.cacheMap(0);
    const outputs = await this.shared.exec();
    const output = outputs[this.index];
    if (output === undefined) {
      throw new BuildError(`output ${this.index} of ${this.shared.vertex.name} does not exist`);
    }
    const value = await this.shared.take(this.shared, output);
    const keys = this.shared.inputs.length === 0 ? await this.#rootKeys() : await this.#linkOwn(map.digest);
    if (value !== null) await this.shared.caches.save(value, keys, Date.now());
    return { value, keys, matches: this.ignoreCache ? [] : keys, cached: false };
  }

  /** Links the inputs' keys and contents to the keys of this edge, found or new. */
  async #linkOwn(digest: string): Promise<Keys> {
    const { inputs, caches } = this.shared;
    const ways = await Promise.all(
      inputs.map(async (input, i) => {
        const { keys } = await input.result();
        const content = await this.shared.content(i);
        const link = await this.#search.link(i);
        const byHistory = keys.map((from) => ({ from, link }));
        if (content === undefined) return byHistory;
        const byContent = { input: i, output: this.index, digest, selector: '' };
        return [...byHistory, { from: rootKey(content, CONTENT_OUTPUT), link: byContent }];
      }),
    );
    const known = intersect(ways.map((way) => way.flatMap(({ from, link }) => caches.query([from], link))));
    const passing = ways.some((way) => way.every(({ from }) => isPassing(from)));
    const own = known.length > 0 ? known : [`${passing ? 'random:' : ''}${randomUUID()}`];
    if (!passing) {
      for (const { from, link } of ways.flat()) for (const key of own) caches.link(from, link, key);
    }
    return own;
  }
}
