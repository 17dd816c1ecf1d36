import { type Digest, isDigest } from '../base/digest.ts';
import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { Pacer } from '../base/pacer.ts';
import { Semaphore } from '../base/semaphore.ts';
import { annotationDistributionSource, annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import type { ContentStore } from '../store/content.ts';
import type { Database } from '../store/database.ts';
import type { LeaseStore } from '../store/lease.ts';
import { LocalMounter } from '../store/local-mounter.ts';
import type { Snapshotter } from '../store/snapshot.ts';
import { BlobMaker } from './blobs.ts';
import { diffRecords, mergeRecords } from './combine.ts';
import { blobAnnotations } from './blob-types.ts';
import { chainId } from './compression.ts';
import { CacheCore, lockedError, MissingProvidersError, recordNotFound } from './core.ts';
import { ImmutableHandle, MutableHandle, type HandleHost } from './handles.ts';
import { evictLeastRecent } from './evict.ts';
import { type BuildsByRecord, Holders } from './holders.ts';
import type { LayerJobs } from './layer-jobs.ts';
import type { LiveRecord } from './live-record.ts';
import type { RecordMetadata } from './metadata.ts';
import { insertRecord, newRow } from './new-record.ts';
import { pruneRule } from './prune.ts';
import { type RecordRow, RecordTable, RowMetadata } from './records.ts';
import type {
  DiskUsageOptions,
  GetByBlobOptions,
  GetOptions,
  ImmutableRef,
  MutableRef,
  NewRecordOptions,
  PruneOptions,
  RefContext,
  RefManager,
  UsageRecord,
} from './ref.ts';
import { SharedMounts } from './shared-mounts.ts';
import { Unlazier } from './unlazy.ts';
import { UsageMeter } from './usage.ts';

export interface RefManagerOptions {
  readonly db: Database;
  readonly content: ContentStore;
  readonly snapshots: Snapshotter;
  readonly leases: LeaseStore;
  readonly jobs: LayerJobs;
  readonly log: Logger;
  /** Directory for mount points, below the state directory. */
  readonly mountDir: string;
  /** A record goes: told within the transaction that removes it. */
  readonly removed?: (id: string) => void;
  /** Runs after a prune. */
  readonly gc: () => Promise<unknown>;
  /** Measures the snapshots that were not measured yet. */
  readonly measure?: (signal?: AbortSignal) => Promise<unknown>;
  /** Slices scans and removals. */
  readonly pacer?: Pacer;
  /** Replaces the free bytes of the file system, for tests. */
  readonly freeBytes?: () => number;
}

/** Marks records that go with their last handle. */
const PASSING = 'buildkit-ts.passing';
/** Records named where the disk is full. */
const LARGEST = 3;
/** How long work that was cancelled may take to let go of what it holds, milliseconds. */
const CLOSE_LIMIT_MS = 5_000;

/** Refs over content, snapshots and leases. Opening it drops what a dead daemon was still writing. */
export class LocalRefManager implements RefManager, HandleHost {
  readonly core: CacheCore;
  readonly unlazier: Unlazier;
  readonly blobs: BlobMaker;
  readonly meter: UsageMeter;
  readonly shared: SharedMounts;
  readonly #options: RefManagerOptions;
  readonly #table: RecordTable;
  readonly #pacer: Pacer;
  readonly #pruning = new Semaphore(1);

  constructor(options: RefManagerOptions) {
    this.#options = options;
    this.#table = new RecordTable(options.db);
    const { content, snapshots, leases, jobs, log, removed } = options;
    const mounter = new LocalMounter(options.mountDir);
    const parts = { table: this.#table, content, snapshots, leases, jobs, log, mounter };
    this.core = new CacheCore({ ...parts, ...(removed ? { removed } : {}) });
    this.unlazier = new Unlazier(this.core);
    this.blobs = new BlobMaker(this.core, this.unlazier);
    this.#pacer = options.pacer ?? new Pacer();
    this.meter = new UsageMeter(this.core, this.blobs, this.#pacer, options.measure ?? (async () => {}));
    this.shared = new SharedMounts(mounter);
    for (const id of [...this.#table.unfinished(), ...this.#table.search(PASSING, '1')])
      this.core.removeRow(id);
  }

  async newMutable(
    parent: ImmutableRef | undefined,
    options: NewRecordOptions = {},
    context: RefContext = {},
  ): Promise<MutableRef> {
    const below = parent && this.#recordOf(parent);
    const create = async (): Promise<MutableRef> => {
      if (below) {
        this.core.finalize(below);
        await this.unlazier.extract(below, context);
      }
      // Kept only once its tree is there: what a crash cuts short goes with the next start.
      const row = newRow(options, { mutable: 1, retain: 0, parent: below?.id ?? null });
      insertRecord(this.core.parts, row, options);
      const record = this.core.adopt(row)!;
      // In use from the start: a record whose tree is still to come looks damaged.
      this.core.hold(record);
      try {
        await this.#options.snapshots.prepare(row.snapshot, below?.row.snapshot, {
          lease: row.id,
          ...(context.signal ? { signal: context.signal } : {}),
        });
        if (options.retain) this.#table.update(row, { retain: 1 });
        return new MutableHandle(this, record);
      } catch (error) {
        this.core.discard(row.id);
        throw error;
      } finally {
        this.core.letGo(record);
      }
    };
    return below ? await this.core.holding(below, create) : await create();
  }

  merge(parts: readonly ImmutableRef[], options: NewRecordOptions = {}): ImmutableRef {
    const records = parts.map((part) => this.#recordOf(part));
    return new ImmutableHandle(this, mergeRecords(this.core, records, options), true);
  }

  diff(lower: ImmutableRef, upper: ImmutableRef | undefined, options: NewRecordOptions = {}): ImmutableRef {
    const above = upper && this.#recordOf(upper);
    const record = diffRecords(this.core, this.#recordOf(lower), above, options);
    return new ImmutableHandle(this, record, true);
  }

  async getMutable(id: string): Promise<MutableRef> {
    const row = this.#table.get(id);
    if (!row) throw recordNotFound(id);
    if (row.mutable === 0) throw invalidArgument(`${id} is not mutable: invalid`);
    // Also while its last result is in use: that one holds it.
    if (this.core.isLive(id)) throw lockedError(id);
    const equal = this.#table.equalImmutable(id);
    const { snapshots } = this.#options;
    if (!snapshots.isWhole(row.snapshot, 'active') || snapshots.lost(row.snapshot).length > 0) {
      this.core.removeRow(id);
      throw recordNotFound(id);
    }
    if (equal) this.core.removeRow(equal.id);
    this.#table.update(row, { size: null });
    const record = this.core.adopt(row);
    if (!record) throw recordNotFound(id);
    return new MutableHandle(this, record);
  }

  async get(id: string, options: GetOptions = {}): Promise<ImmutableRef> {
    const record = this.core.load(id);
    if (!record) throw recordNotFound(id);
    if (record.row.mutable === 1) {
      await using mutable = await this.getMutable(id);
      return await mutable.commit();
    }
    for (const one of record.ancestors()) {
      const provider = one.row.blob === null ? undefined : options.providers?.get(one.row.blob);
      if (provider) one.provider = provider;
    }
    this.core.checkUsable(record);
    const handle = new ImmutableHandle(this, record, options.countUse ?? true);
    try {
      await this.core.checkBlobs(record);
      return handle;
    } catch (error) {
      await handle.release();
      throw error;
    }
  }

  async getByBlob(
    descriptor: Descriptor,
    parent: ImmutableRef | undefined,
    options: GetByBlobOptions = {},
  ): Promise<ImmutableRef> {
    const diffId = diffIdOf(descriptor);
    const { content } = this.#options;
    if (!options.provider && !content.has(descriptor.digest))
      throw new MissingProvidersError([descriptor.digest]);
    const below = parent && this.#recordOf(parent);
    if (below && (below.row.chain_id === null || below.row.blob_chain_id === null))
      throw new BuildError('failed to get ref by blob on non-addressable parent', {
        code: Code.failedPrecondition,
      });
    const chain = chainId(below?.row.chain_id ?? undefined, diffId);
    const layer = chainId(descriptor.digest, diffId);
    const blobChain = chainId(below?.row.blob_chain_id ?? undefined, layer);
    const known = this.#usable(this.#table.byChain('blob_chain_id', blobChain), options);
    if (known) {
      this.#addImageRef(known, options.imageRef);
      return new ImmutableHandle(this, known, true);
    }
    const twin = this.#usable(this.#table.byChain('chain_id', chain), {});
    const row = newRow(options, {
      parent: below?.id ?? null,
      snapshot: twin?.row.snapshot ?? chain,
      blob_only: 1,
      diff_id: diffId,
      chain_id: chain,
      blob_chain_id: blobChain,
      blob: descriptor.digest,
      media_type: descriptor.mediaType,
      blob_size: descriptor.size,
      annotations: JSON.stringify(keptAnnotations(descriptor)),
      urls: JSON.stringify(descriptor.urls ?? []),
    });
    insertRecord(this.core.parts, row, options);
    const record = this.core.adopt(row)!;
    record.provider = options.provider;
    return new ImmutableHandle(this, record, true);
  }

  /** The first record that can be used as it is, or with the provider given. */
  #usable(rows: readonly RecordRow[], options: GetByBlobOptions): LiveRecord | undefined {
    for (const row of rows) {
      const record = this.core.adopt(row);
      if (!record) continue;
      if (options.provider) record.provider = options.provider;
      if ([...record.ancestors()].every((one) => one.provider || !this.core.isLazy(one))) return record;
    }
    return undefined;
  }

  #addImageRef(record: LiveRecord, imageRef: string | undefined): void {
    if (imageRef === undefined || record.metadata.imageRefs.includes(imageRef)) return;
    this.#table.update(record.row, { image_refs: JSON.stringify([...record.metadata.imageRefs, imageRef]) });
  }

  commitMutable(record: LiveRecord, passing: boolean): LiveRecord {
    const { row } = record;
    if (passing && row.retain === 1)
      throw new BuildError(`${row.id} is kept by its owner`, { code: Code.internal });
    if (row.retain === 0) {
      // Nobody can ask for the mutable again: the record itself becomes immutable.
      this.#table.db.transaction(() => {
        this.#options.snapshots.commit(row.snapshot, row.snapshot);
        this.#table.update(row, { mutable: 0, size: null });
        if (passing) this.#table.setValue(row.id, PASSING, '1');
      });
      record.isPassing = passing;
      return record;
    }
    const options = { description: row.description };
    const committed = newRow(options, { parent: row.parent, equal_mutable: row.id });
    insertRecord(this.core.parts, committed, options);
    return this.core.adopt(committed)!;
  }

  releaseMutable(record: LiveRecord): void {
    if (record.row.retain === 0) this.core.discard(record.id);
  }

  search(key: string, value: string): readonly RecordMetadata[] {
    return this.#metadataOf(this.#table.search(key, value));
  }

  searchPrefix(key: string, prefix: string): readonly RecordMetadata[] {
    return this.#metadataOf(this.#table.searchPrefix(key, prefix));
  }

  #metadataOf(ids: readonly string[]): RecordMetadata[] {
    return ids.map((id) => this.metadata(id)).filter((m) => m !== undefined);
  }

  metadata(id: string): RecordMetadata | undefined {
    const live = this.core.live(id);
    if (live) return live.metadata;
    const row = this.#table.get(id);
    return row && new RowMetadata(this.#table, row);
  }

  diskUsage(options: DiskUsageOptions = {}): Promise<readonly UsageRecord[]> {
    return this.meter.list(options);
  }

  diskUsagePages(options: DiskUsageOptions = {}): AsyncIterable<readonly UsageRecord[]> {
    return this.meter.pages(options);
  }

  holders(builds: BuildsByRecord): Holders {
    return new Holders(this.core, builds);
  }

  async *prune(
    rules: readonly PruneOptions[],
    options: { signal?: AbortSignal } = {},
  ): AsyncIterable<UsageRecord> {
    using _alone = await this.#pruning.acquire(options.signal);
    const { freeBytes, mountDir: dir } = this.#options;
    const own = { core: this.core, meter: this.meter, pacer: this.#pacer, dir };
    const parts = { ...own, ...(freeBytes ? { freeBytes } : {}) };
    try {
      for (const rule of rules) yield* pruneRule(parts, rule, options.signal);
    } finally {
      await this.#options.gc();
    }
  }

  evict(options: { signal?: AbortSignal } = {}): AsyncIterable<UsageRecord> {
    return evictLeastRecent({ core: this.core, meter: this.meter, pacer: new Pacer() }, options.signal);
  }

  async inUse(signal?: AbortSignal): Promise<{ bytes: number; largest: readonly UsageRecord[] }> {
    const records: UsageRecord[] = [];
    for (const { row } of [...this.core.liveRecords()])
      if (row.mutable === 0)
        records.push({ ...this.meter.describe(row), size: await this.meter.size(row, signal) });
    records.sort((a, b) => b.size - a.size);
    return { bytes: records.reduce((sum, { size }) => sum + size, 0), largest: records.slice(0, LARGEST) };
  }

  async close(): Promise<void> {
    using _last = await this.#pruning.acquire();
    if (!(await this.core.empty(CLOSE_LIMIT_MS)))
      this.#options.log.warn('refs are still held at close', { records: this.core.liveCount });
  }

  #recordOf(ref: ImmutableRef): LiveRecord {
    const record = ImmutableHandle.recordOf(ref);
    if (!record) throw new BuildError(`ref ${ref.id} belongs to another manager`, { code: Code.internal });
    return record;
  }
}

function diffIdOf(descriptor: Descriptor): Digest {
  const diffId = descriptor.annotations?.[annotationUncompressed];
  if (diffId === undefined) throw invalidArgument(`missing uncompressed annotation for ${descriptor.digest}`);
  if (!isDigest(diffId)) throw invalidArgument(`failed to parse diffID "${diffId}" for ${descriptor.digest}`);
  return diffId;
}

/** Where a blob comes from lets a push mount it instead of sending it; the rest is the blob's own. */
function keptAnnotations(descriptor: Descriptor): Record<string, string> {
  const all = Object.entries(descriptor.annotations ?? {});
  const sources = all.filter(([key]) => key.startsWith(annotationDistributionSource));
  return { ...Object.fromEntries(sources), ...blobAnnotations(descriptor.annotations) };
}
