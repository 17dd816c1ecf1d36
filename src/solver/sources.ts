import type { KeyGraph, KeyLink, KeyRecord, KeyStore } from './keystore.ts';
import { isPassing } from './keystore.ts';
import type { Result } from './types.ts';

/** Kept results by id. */
export interface Results<R extends Result> {
  /** A handle of a kept result, owned by the caller. @throws when it is gone or damaged. */
  load(id: string, signal: AbortSignal): Promise<R>;
  /** Whether `load` can work at all; records of results that are gone are let go. Absent: look by loading. */
  exists?(id: string): boolean;
}

export interface ResultStore<R extends Result> extends Results<R> {
  /** Keeps `result`, whose handle stays the caller's, and names it. */
  save(result: R): string | Promise<string>;
}

/** A cache to look things up in: the solver's own, or an imported one, whose keys have names of their own. */
export interface CacheSource<R extends Result> {
  readonly keys: KeyGraph;
  readonly results: Results<R>;
}

/** A record and the cache that it stands in. */
export interface FoundRecord<R extends Result> extends KeyRecord {
  readonly source: CacheSource<R>;
}

/** All caches as one: looks into each, writes to the first, which is the solver's own. */
export class Caches<R extends Result> {
  readonly #keys: KeyStore;
  readonly #results: ResultStore<R>;
  readonly #sources: readonly CacheSource<R>[];

  constructor(keys: KeyStore, results: ResultStore<R>, imported: readonly CacheSource<R>[] = []) {
    this.#keys = keys;
    this.#results = results;
    this.#sources = [{ keys, results }, ...imported];
  }

  query(from: readonly string[], link: KeyLink): string[] {
    const found = this.#sources.flatMap(({ keys }) => from.flatMap((key) => [...keys.query(key, link)]));
    return [...new Set(found)];
  }

  /** Newest first; of equal age, imported ones first (FEATURES E15). Results that are gone are let go. */
  records(keys: readonly string[]): FoundRecord<R>[] {
    const found = this.#sources
      .toReversed()
      .flatMap((source) =>
        keys.flatMap((key) => source.keys.records(key).map((record) => ({ ...record, source }))),
      );
    const alive = found.filter(({ source, resultId }) => {
      if (source.results.exists?.(resultId) ?? true) return true;
      if (source.keys === this.#keys) this.#keys.releaseResult(resultId);
      return false;
    });
    return alive.sort((a, b) => b.createdAt - a.createdAt);
  }

  /** Links that start at a passing key are not made: nothing could ask for them again. */
  link(from: string, link: KeyLink, to: string): void {
    if (!isPassing(from)) this.#keys.link(from, link, to);
  }

  /** Puts `result` on those of `keys` that can be asked for again. */
  async save(result: R, keys: readonly string[], createdAt: number): Promise<void> {
    const lasting = keys.filter((key) => !isPassing(key));
    if (lasting.length === 0) return;
    const resultId = await this.#results.save(result);
    for (const key of lasting) this.#keys.addRecord({ key, resultId, createdAt });
  }

  /** Takes over a loaded record of an imported cache, with all ways that lead to it. */
  async adopt(record: FoundRecord<R>, result: R): Promise<void> {
    const { source } = record;
    if (source.keys === this.#keys) return;
    const seen = new Set([record.key]);
    for (const key of seen) {
      for (const { from, link } of source.keys.backlinks(key)) {
        this.link(from, link, key);
        seen.add(from);
      }
    }
    await this.save(result, [record.key], record.createdAt);
  }
}
