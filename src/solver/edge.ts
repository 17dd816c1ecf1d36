import { randomUUID } from 'node:crypto';
import { BuildError } from '../base/errors.ts';
import { isPassing, rootKey } from './keystore.ts';
import { CONTENT_OUTPUT } from './keystore.ts';
import { intersect, KeySearch } from './key-search.ts';
import type { Memo } from './memo.ts';
import { Unwanted } from './memo.ts';
import type { SharedVertex } from './shared-vertex.ts';
import type { FoundRecord } from './sources.ts';
import type { Result } from './types.ts';

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
  readonly #search: KeySearch<Spec, R>;
  readonly #fast: Memo<Keys>;
  readonly #slow: Memo<Keys>;
  readonly #result: Memo<EdgeResult<R>>;

  constructor(shared: SharedVertex<Spec, R>, index: number) {
    this.shared = shared;
    this.index = index;
    this.#search = new KeySearch(shared, index);
    this.#fast = shared.memo(() => this.#findFast());
    this.#slow = shared.memo(() => this.#findSlow());
    this.#result = shared.memo(() => this.#solve());
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

  get isSolved(): boolean {
    return this.#result.settled !== undefined;
  }

  /** Those of them by which consumers may be found. */
  get knownMatches(): Iterable<string> {
    return this.#result.settled?.value.matches ?? this.knownKeys;
  }

  /** The cheapest question that is worked on, and since when (Unix milliseconds); for state dumps. */
  get stage(): { readonly name: string; readonly since?: number } {
    if (this.#result.settled) return { name: 'done' };
    const questions = [
      ['slow keys', this.#slow],
      ['fast keys', this.#fast],
      ['result', this.#result],
    ] as const;
    for (const [name, { runningSince: since }] of questions) if (since !== undefined) return { name, since };
    return { name: 'not asked' };
  }

  async #findFast(): Promise<Keys> {
    if (this.shared.ignoreCache) return [];
    if (this.shared.inputs.length > 0) return this.#search.fast();
    const { map } = await this.shared.cacheMap(0);
    return [rootKey(map.digest, this.index)];
  }

  async #findSlow(): Promise<Keys> {
    if (this.shared.ignoreCache) return [];
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
    const twin = this.shared.standIn(await this.shared.identity());
    if (twin !== this.shared) return this.#follow(twin);
    return (await this.#lookUp()) ?? (await this.#run());
  }

  async #follow(twin: SharedVertex<Spec, R>): Promise<EdgeResult<R>> {
    const solved = await this.shared.borrow(twin, () => twin.edge(this.index).result());
    const value = await this.shared.take(twin, solved.value);
    this.shared.started(true);
    this.shared.reporter.complete();
    return { ...solved, value, cached: true };
  }

  async #lookUp(): Promise<EdgeResult<R> | undefined> {
    if (this.shared.ignoreCache) return undefined;
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
    return shared.guard(`loads record ${record.resultId}`, async (context) => {
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
        shared.lost = BuildError.from(error).message;
        if (show) shared.reporter.complete(shared.lost);
        return undefined;
      }
    });
  }

  async #run(): Promise<EdgeResult<R>> {
    const { map } = await this.shared.cacheMap(0);
    const { outputs, cached } = await this.shared.exec();
    const output = outputs[this.index];
    if (output === undefined) {
      throw new BuildError(`output ${this.index} of ${this.shared.vertex.name} does not exist`);
    }
    const value = await this.shared.take(this.shared, output);
    const keys = this.shared.inputs.length === 0 ? await this.#rootKeys() : await this.#linkOwn(map.digest);
    if (value !== null) await this.shared.caches.save(value, keys, this.shared.now());
    return { value, keys, matches: this.shared.ignoreCache ? [] : keys, cached };
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
    const own = this.shared.addOutputKeys(
      this.index,
      known,
      () => `${passing ? 'random:' : ''}${randomUUID()}`,
    );
    if (!passing) {
      for (const { from, link } of ways.flat()) for (const key of own) caches.link(from, link, key);
    }
    return own;
  }
}
