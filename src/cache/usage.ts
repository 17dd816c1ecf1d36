import { hasCode, Code } from '../base/errors.ts';
import type { Pacer } from '../base/pacer.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { BlobMaker } from './blobs.ts';
import type { CacheCore } from './core.ts';
import { parseFilters, usageField } from './filter.ts';
import type { RecordRow } from './records.ts';
import type { DiskUsageOptions, UsageRecord } from './ref.ts';

/** Trees measured at a time. */
const PARALLEL_WALKS = 2;
/** More records without a size are measured together. */
const FEW = 16;

/** Sizes of records and the list of all of them. */
export class UsageMeter {
  readonly #core: CacheCore;
  readonly #blobs: BlobMaker;
  readonly #pacer: Pacer;
  readonly #measure: (signal?: AbortSignal) => Promise<unknown>;
  readonly #walks = new Semaphore(PARALLEL_WALKS);

  /** @param measure measures all snapshots that were not measured yet */
  constructor(
    core: CacheCore,
    blobs: BlobMaker,
    pacer: Pacer,
    measure: (signal?: AbortSignal) => Promise<unknown>,
  ) {
    this.#core = core;
    this.#blobs = blobs;
    this.#pacer = pacer;
    this.#measure = measure;
  }

  /**
   * Bytes of the record's own tree, its blob and the blob's variants (FEATURES F14); kept once measured. What
   * several records share is counted for the one that was measured first.
   */
  async size(row: RecordRow, signal?: AbortSignal): Promise<number> {
    if (row.size !== null) return row.size;
    const { table } = this.#core.parts;
    const tree = row.blob_only === 1 ? 0 : await this.#treeSize(row, signal);
    // Nothing is awaited from here on: two records must not both, or neither, count what they share.
    const ownTree = tree > 0 && !table.isCounted('snapshot', row.snapshot, row.id);
    const size = (ownTree ? tree : 0) + this.#blobSize(row);
    const live = this.#core.live(row.id);
    // What is being written has no size to remember.
    if (!(live && live.row.mutable === 1)) table.update(live?.row ?? row, { size });
    return size;
  }

  #blobSize({ id, blob }: RecordRow): number {
    const { content, table } = this.#core.parts;
    if (blob === null || table.isCounted('blob', blob, id)) return 0;
    const variants = this.#blobs.variants(blob).filter((digest) => !table.isCounted('blob', digest, id));
    return [blob, ...variants].reduce((sum, digest) => sum + (content.info(digest)?.size ?? 0), 0);
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
  isDuplicate(row: Pick<RecordRow, 'id' | 'mutable' | 'equal_mutable'>): boolean {
    if (row.equal_mutable !== null) return !this.#core.isLive(row.id);
    if (row.mutable === 0) return false;
    const equal = this.#core.parts.table.equalImmutable(row.id);
    return equal !== undefined && this.#core.isLive(equal.id);
  }

  /** Bytes of all records. */
  async total(signal?: AbortSignal): Promise<number> {
    await this.#measureMany(signal);
    const pace = this.#pacer.start();
    let bytes = 0;
    for (const page of this.#core.parts.table.sizePages()) {
      for (const row of page)
        bytes += this.isDuplicate(row) ? 0 : (row.size ?? (await this.#late(row.id, signal)));
      await pace.turn(signal);
    }
    return bytes;
  }

  async #late(id: string, signal: AbortSignal | undefined): Promise<number> {
    const row = this.#core.parts.table.get(id);
    return row && !this.#isChanging(row) ? await this.size(row, signal) : 0;
  }

  /** The records that the options leave, some at a time, by id. */
  async *pages(options: DiskUsageOptions = {}): AsyncIterable<readonly UsageRecord[]> {
    const filter = parseFilters(options.filters ?? [], 'diskusage');
    const newest = options.ageLimitMs ? Date.now() - options.ageLimitMs : Number.POSITIVE_INFINITY;
    await this.#measureMany(options.signal);
    const pace = this.#pacer.start();
    for (const page of this.#core.parts.table.pages()) {
      const chosen = page.filter(
        (row) =>
          !this.isDuplicate(row) &&
          (row.last_used_at ?? 0) <= newest &&
          filter(usageField(this.describe(row))),
      );
      const records = await Promise.all(
        chosen.map(async (row) => {
          const size = this.#isChanging(row) ? 0 : await this.size(row, options.signal);
          return { ...this.describe(row), size };
        }),
      );
      if (records.length > 0) yield records;
      await pace.turn(options.signal);
    }
  }

  /** All of them, oldest first. */
  async list(options: DiskUsageOptions = {}): Promise<readonly UsageRecord[]> {
    const all: UsageRecord[] = [];
    for await (const page of this.pages(options)) all.push(...page);
    return all.sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime() || (a.id < b.id ? -1 : 1));
  }

  /** What is being written has no size yet. */
  #isChanging(row: RecordRow): boolean {
    return row.mutable === 1 && this.#core.isLive(row.id);
  }

  /** One walk for all, where many have no size yet. */
  async #measureMany(signal: AbortSignal | undefined): Promise<void> {
    if (this.#core.parts.table.hasUnmeasured(FEW)) await this.#measure(signal);
  }
}
