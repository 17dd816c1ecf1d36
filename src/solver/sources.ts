import type { KeyGraph, KeyLink, KeyRecord, KeyStore } from './keystore.ts';
import { isPassing } from './keystore.ts';
import type { OpContext, Result } from './types.ts';

/** On whose behalf a result is loaded. */
export type LoadContext = Pick<OpContext, 'signal' | 'progress' | 'sessions'> & {
  /** The result is used up before the build ends: its bytes may stay where they are. */
  readonly brief?: boolean;
  /** It is looked at only, which makes no difference to how often and when it was used. */
  readonly peek?: boolean;
};

/** Kept results by id. */
export interface Results<R extends Result> {
  /** A handle of a kept result, owned by the caller. @throws when it is gone or damaged. */
  load(id: string, context: LoadContext): Promise<R>;
  /** Whether `load` can work at all; records of results that are gone are let go. Absent: look by loading. */
  exists?(id: string): boolean;
  /**
   * Records of keys on the way to a record whose results came along with its own: layers below its layers. The
   * handles are the caller's.
   */
  parts?(record: KeyRecord, context: LoadContext): Promise<readonly RecordPart<R>[]>;
}

export interface RecordPart<R extends Result> {
  readonly record: KeyRecord;
  readonly result: R;
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

/** The solver's own cache, the only one that is written to. */
export interface OwnCache<R extends Result> extends CacheSource<R> {
  readonly keys: KeyStore;
  readonly results: ResultStore<R>;
}

/** A cache from elsewhere that is fetched while the build goes on. */
export interface CacheImport<R extends Result> {
  /** Two imports of the same id are the same. */
  readonly id: string;
  /** Never rejects: a cache that cannot be had is no cache. */
  readonly sources: Promise<readonly CacheSource<R>[]>;
}

/** A record and the cache that it stands in. */
export interface FoundRecord<R extends Result> extends KeyRecord {
  readonly source: CacheSource<R>;
}

/** The caches of a vertex as one: looks into each, writes to the solver's own. */
export class Caches<R extends Result> {
  readonly #own: OwnCache<R>;
  readonly #imports = new Map<string, CacheImport<R>>();
  readonly #imported = new Map<string, readonly CacheSource<R>[]>();
  readonly #loading = new Map<string, Promise<void>>();
  readonly #loadingSince = new Map<string, number>();
  #sources: readonly CacheSource<R>[];

  constructor(own: OwnCache<R>) {
    this.#own = own;
    this.#sources = [own];
  }

  /** Those that can be looked into now, the solver's own first. */
  get sources(): readonly CacheSource<R>[] {
    return this.#sources;
  }

  get imports(): readonly CacheImport<R>[] {
    return [...this.#imports.values()];
  }

  /** Adds what is not there yet. It counts from when it is there. */
  addImports(imports: readonly CacheImport<R>[]): void {
    for (const one of imports) {
      const { id } = one;
      if (this.#imports.has(id)) continue;
      this.#imports.set(id, one);
      this.#imported.set(id, []);
      const loading = one.sources.then((found) => {
        this.#loading.delete(id);
        this.#loadingSince.delete(id);
        this.#imported.set(id, found);
        this.#sources = [this.#own, ...[...this.#imported.values()].flat()];
      });
      this.#loading.set(id, loading);
      this.#loadingSince.set(id, Date.now());
    }
  }

  /** The imports under way, since when (Unix milliseconds). */
  get waits(): { readonly what: string; readonly since: number }[] {
    return [...this.#loadingSince].map(([id, since]) => ({ what: `waits for cache ${id}`, since }));
  }

  /** Waits for the imports under way; undefined when there are none. */
  ready(): Promise<unknown> | undefined {
    return this.#loading.size === 0 ? undefined : Promise.all(this.#loading.values());
  }

  query(from: readonly string[], link: KeyLink): string[] {
    const found = this.#sources.flatMap(({ keys }) => from.flatMap((key) => [...keys.query(key, link)]));
    return [...new Set(found)];
  }

  /** Newest first; of equal age, imported ones first (FEATURES E15). Results that are gone are let go. */
  records(keys: readonly string[]): FoundRecord<R>[] {
    return recordsIn(this.#sources, keys).filter(({ source, resultId }) => {
      if (source.results.exists?.(resultId) ?? true) return true;
      if (source === this.#own) this.#own.keys.releaseResult(resultId);
      return false;
    });
  }

  /** Links that start at a passing key are not made: nothing could ask for them again. */
  link(from: string, link: KeyLink, to: string): void {
    if (!isPassing(from)) this.#own.keys.link(from, link, to);
  }

  /** Puts `result` on those of `keys` that can be asked for again. */
  async save(result: R, keys: readonly string[], createdAt: number): Promise<void> {
    const lasting = keys.filter((key) => !isPassing(key));
    if (lasting.length === 0) return;
    const resultId = await this.#own.results.save(result);
    for (const key of lasting) this.#own.keys.addRecord({ key, resultId, createdAt });
  }

  /** Takes over a loaded record of an imported cache, with all ways that lead to it and what came along. */
  async adopt(record: FoundRecord<R>, result: R, context: LoadContext): Promise<void> {
    const { source } = record;
    if (source === this.#own) return;
    const seen = new Set([record.key]);
    for (const key of seen) {
      for (const { from, link } of source.keys.backlinks(key)) {
        this.link(from, link, key);
        seen.add(from);
      }
    }
    await this.save(result, [record.key], record.createdAt);
    const parts = (await source.results.parts?.(record, context)) ?? [];
    try {
      for (const part of parts) await this.save(part.result, [part.record.key], part.record.createdAt);
    } finally {
      await Promise.all(parts.map((part) => part.result.release()));
    }
  }
}

/** Records of `keys` in all of `sources`, newest first; of equal age, those of later sources first. */
export function recordsIn<R extends Result>(
  sources: readonly CacheSource<R>[],
  keys: readonly string[],
): FoundRecord<R>[] {
  return sources
    .toReversed()
    .flatMap((source) =>
      keys.flatMap((key) => source.keys.records(key).map((record) => ({ ...record, source }))),
    )
    .sort((a, b) => b.createdAt - a.createdAt);
}
