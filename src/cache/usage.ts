import { setImmediate as nextTurn } from 'node:timers/promises';
import { hasCode, Code } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { BlobMaker } from './blobs.ts';
import type { CacheCore } from './core.ts';
import { parseFilters, usageField } from './filter.ts';
import type { RecordRow } from './records.ts';
import type { DiskUsageOptions, UsageRecord } from './ref.ts';

/** Trees measured at a time. */
const PARALLEL_WALKS = 2;

/** Sizes of records and the list of all of them. */
export class UsageMeter {
  readonly #core: CacheCore;
  readonly #blobs: BlobMaker;
  readonly #walks = new Semaphore(PARALLEL_WALKS);

  constructor(core: CacheCore, blobs: BlobMaker) {
    this.#core = core;
    this.#blobs = blobs;
  }

  /** Bytes of the record's own tree, its blob and the blob's variants (FEATURES F14); kept once measured. */
  async size(row: RecordRow, signal?: AbortSignal): Promise<number> {
    if (row.size !== null) return row.size;
    const { content, table } = this.#core.parts;
    let size = row.blob_only === 1 ? 0 : await this.#treeSize(row, signal);
    if (row.blob !== null)
      for (const digest of [row.blob, ...this.#blobs.variants(row.blob)])
        size += content.info(digest)?.size ?? 0;
    const live = this.#core.live(row.id);
    // What is being written has no size to remember.
    if (!(live && live.row.mutable === 1)) table.update(live?.row ?? row, { size });
    return size;
  }

  async #treeSize(row: RecordRow, signal: AbortSignal | undefined): Promise<number> {
    const snapshot =
      row.equal_mutable === null ? row.snapshot : this.#core.parts.table.get(row.equal_mutable)?.snapshot;
    try {
      return (
        await this.#walks.run(
          () => this.#core.parts.snapshots.usage(snapshot ?? row.snapshot, signal ? { signal } : {}),
          signal,
        )
      ).size;
    } catch (error) {
      // Removed meanwhile, or a lazy layer without a tree.
      if (hasCode(error, Code.notFound)) return 0;
      throw error;
    }
  }

  /** The record's line; `size` as known, 0 otherwise. */
  describe(row: RecordRow): UsageRecord {
    return {
      id: row.id,
      mutable: row.mutable === 1,
      inUse: this.#core.isLive(row.id),
      size: row.size ?? 0,
      parents: this.#core.parts.table.parents(row),
      createdAt: new Date(row.created_at),
      lastUsedAt: row.last_used_at === null ? undefined : new Date(row.last_used_at),
      usageCount: row.usage_count,
      description: row.description,
      recordType: row.type,
      shared: false,
    };
  }

  /**
   * A mutable record and the immutable one that shares its snapshot are one thing: the immutable one stands for
   * it while it is in use, the mutable one otherwise.
   */
  isDuplicate(row: RecordRow): boolean {
    if (row.equal_mutable !== null) return !this.#core.isLive(row.id);
    if (row.mutable === 0) return false;
    const equal = this.#core.parts.table.equalImmutable(row.id);
    return equal !== undefined && this.#core.isLive(equal.id);
  }

  /** Rows of all records without duplicates; the event loop gets its turn between pages. */
  async *rows(signal?: AbortSignal): AsyncIterable<RecordRow> {
    for (const page of this.#core.parts.table.pages()) {
      for (const row of page) if (!this.isDuplicate(row)) yield row;
      await nextTurn();
      signal?.throwIfAborted();
    }
  }

  async list(options: DiskUsageOptions = {}): Promise<readonly UsageRecord[]> {
    const filter = parseFilters(options.filters ?? [], 'diskusage');
    const newest = options.ageLimitMs ? Date.now() - options.ageLimitMs : Number.POSITIVE_INFINITY;
    const chosen: RecordRow[] = [];
    for await (const row of this.rows(options.signal))
      if ((row.last_used_at ?? 0) <= newest && filter(usageField(this.describe(row)))) chosen.push(row);
    chosen.sort((a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1));
    return await Promise.all(
      chosen.map(async (row) => {
        const record = this.describe(row);
        if (record.mutable && record.inUse) return { ...record, size: 0 };
        return { ...record, size: await this.size(row, options.signal) };
      }),
    );
  }
}
