import type { Digest } from '../base/digest.ts';
import type { BuildError } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Mount } from '../oci/mount.ts';
import type { BuildsByRecord, Holders } from './holders.ts';
import type { RecordMetadata } from './metadata.ts';

/** FEATURES B29. */
export type RecordType =
  | 'regular'
  | 'source.local'
  | 'source.git.checkout'
  | 'exec.cachemount'
  | 'frontend'
  | 'internal';

/** Progress of making a lazy layer local. Sizes in bytes. */
export interface LayerProgress {
  /** `digest` is the blob; `current === total` with `done` at the end. */
  download(digest: Digest, current: number, total: number, done: boolean): void;
  extract(digest: Digest, done: boolean): void;
  /** The tree of a merge or diff is made; `id` names which, among several. */
  combine(action: 'merging' | 'diffing', id: string, done: boolean): void;
}

/** Where the bytes of a lazy blob come from. `open` starts at `offset`, so that a broken download resumes. */
export interface BlobProvider {
  open(descriptor: Descriptor, offset: number, options: { signal: AbortSignal }): AsyncIterable<Uint8Array>;
  /** Whether the bytes can be had, where that is cheap to ask. Absent: see when they are read. */
  has?(descriptor: Descriptor, options: { signal: AbortSignal }): Promise<boolean>;
  readonly progress?: LayerProgress;
}

/** What the awaiting methods of refs take. Aborting stops this wait; the work stops when nobody waits for it. */
export interface RefContext {
  readonly signal?: AbortSignal;
  readonly progress?: LayerProgress;
}

/** Mounts of a ref, valid until `release` (or disposal). Mount them with `LocalMounter` or hand them to a runtime. */
export interface RefMounts extends AsyncDisposable {
  readonly mounts: readonly Mount[];
  release(): Promise<void>;
}

interface RefCommon extends AsyncDisposable {
  /** Record id. */
  readonly id: string;
  readonly record: RecordMetadata;
  /** Gives the handle back. Twice is an internal error. */
  release(): Promise<void>;
}

/** A file tree that never changes. */
export interface ImmutableRef extends RefCommon {
  readonly kind: 'immutable';
  /** Another handle of the same record. */
  clone(): ImmutableRef;
  /** Read-only mounts; makes a lazy chain local first. */
  mount(readonly: boolean, context?: RefContext): Promise<RefMounts>;
  /** Makes the whole chain's snapshots local (download and unpack). */
  extract(context?: RefContext): Promise<void>;
  /** Ends the use of the mutable this was committed from: from now on the snapshot is its own. */
  finalize(): Promise<void>;
  /** Layers bottom up with what is known of their blobs. */
  layerChain(): readonly LayerInfo[];
  /**
   * Descriptors of the whole chain bottom up, with `containerd.io/uncompressed`, `buildkit/createdat` and
   * `buildkit/description` annotations; missing blobs are made. The blobs are held by `lease`.
   */
  ensureBlobs(options: EnsureBlobsOptions, context?: RefContext): Promise<readonly Descriptor[]>;
  /** Makes lazy blobs of `ensureBlobs` local (content only, no unpacking). */
  ensureLocalBlobs(context?: RefContext): Promise<void>;
  /** The same one by one: those that are not local, by digest, with what makes them so. */
  lazyBlobs(): ReadonlyMap<Digest, (context?: RefContext) => Promise<void>>;
  /** Providers of blobs of this chain that are not local, by digest: an exporter may copy from them directly. */
  providers(): ReadonlyMap<Digest, BlobProvider>;
  /** Bytes of the record's own part. */
  size(context?: RefContext): Promise<number>;
}

/** A file tree that one holder may write. */
export interface MutableRef extends RefCommon {
  readonly kind: 'mutable';
  /**
   * Writable mounts, or read-only ones of the present state. `shared` is for a directory that several steps use
   * at the same time: a stacked one is then mounted once and given out as bind mounts.
   */
  mount(readonly: boolean, context?: RefContext & { shared?: boolean }): Promise<RefMounts>;
  /**
   * The present state as an immutable ref; this handle ends. A retained mutable stays usable by `getMutable`
   * until the immutable one is finalized (FEATURES F1, equalMutable). A `passing` one is no part of the cache: it is
   * removed with its last handle, or by the next start.
   */
  commit(options?: { readonly passing?: boolean }): Promise<ImmutableRef>;
}

/** One layer of a chain. What is not known yet is undefined. Sizes in bytes. */
export interface LayerInfo {
  readonly recordId: string;
  readonly blob: Digest | undefined;
  readonly diffId: Digest | undefined;
  readonly chainId: Digest | undefined;
  readonly blobChainId: Digest | undefined;
  readonly mediaType: string | undefined;
  readonly size: number | undefined;
  readonly createdAt: Date;
  readonly description: string;
  readonly urls: readonly string[];
}

export type CompressionType = 'uncompressed' | 'gzip' | 'zstd' | 'estargz';

export interface Compression {
  readonly type: CompressionType;
  /** gzip 0-9, zstd 0-22; the type's default when absent. */
  readonly level?: number;
  /** Convert layers that already have a blob of another type. */
  readonly force: boolean;
}

export interface EnsureBlobsOptions {
  readonly compression: Compression;
  /** Holds the blobs that are used or made. */
  readonly lease: string;
  /**
   * False: a layer without a blob, or without one of the compression that is forced, is an error (notFound, `no
   * blobs for snapshot`). Default true.
   */
  readonly create?: boolean;
  /** Give non-distributable layers their urls and media type (default false: plain layers). */
  readonly preferNonDistributable?: boolean;
}

export interface NewRecordOptions {
  readonly description?: string;
  readonly type?: RecordType;
  readonly createdAt?: Date;
  /** Keep a mutable after its last handle is gone (cache mounts, local sources). */
  readonly retain?: boolean;
  /** Image references to remember for the record. */
  readonly imageRef?: string;
  /** Searchable and plain metadata written with the record. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface GetByBlobOptions extends NewRecordOptions {
  /** Needed when the blob is not in the content store. */
  readonly provider?: BlobProvider;
}

export interface GetOptions {
  /** Providers for lazy blobs of the chain, by digest. */
  readonly providers?: ReadonlyMap<Digest, BlobProvider>;
  /** Default true: releasing the handle counts as a use. */
  readonly countUse?: boolean;
}

/** One line of disk usage (FEATURES B28). `size` in bytes. */
export interface UsageRecord {
  readonly id: string;
  readonly mutable: boolean;
  readonly inUse: boolean;
  readonly size: number;
  readonly parents: readonly string[];
  readonly createdAt: Date;
  readonly lastUsedAt: Date | undefined;
  readonly usageCount: number;
  readonly description: string;
  readonly recordType: RecordType;
  readonly shared: boolean;
}

export interface DiskUsageOptions {
  /** Filter strings; a record that matches one is listed (FEATURES B31). */
  readonly filters?: readonly string[];
  /** Leaves out records used within this time. */
  readonly ageLimitMs?: number;
  readonly signal?: AbortSignal;
}

/** FEATURES B30, F12. Spaces in bytes, 0 or absent = no limit. */
export interface PruneOptions {
  readonly filters?: readonly string[];
  readonly all?: boolean;
  readonly keepDurationMs?: number;
  readonly reservedSpace?: number;
  readonly maxUsedSpace?: number;
  readonly minFreeSpace?: number;
}

/** Refs by id, by blob and by metadata. Owned by the worker. */
export interface RefManager {
  /** A writable tree on top of `parent` (undefined: empty). The caller keeps its own handle of the parent. */
  newMutable(
    parent: ImmutableRef | undefined,
    options?: NewRecordOptions,
    context?: RefContext,
  ): Promise<MutableRef>;
  /** @throws `locked` (see isLocked) when in use, notFound when unknown. */
  getMutable(id: string): Promise<MutableRef>;
  /** @throws notFound; `MissingProvidersError` when a lazy blob has no provider. */
  get(id: string, options?: GetOptions): Promise<ImmutableRef>;
  /** A ref of the layer `descriptor` (annotated with its diff ID) on `parent`, without downloading it. */
  getByBlob(
    descriptor: Descriptor,
    parent: ImmutableRef | undefined,
    options?: GetByBlobOptions,
  ): Promise<ImmutableRef>;
  /**
   * Layers of all `parts` on top of one another (FEATURES F6). The tree is made when it is first used. One part
   * alone is given back itself; there must be one.
   */
  merge(parts: readonly ImmutableRef[], options?: NewRecordOptions): ImmutableRef;
  /** What leads from `lower` to `upper`, or to the empty tree (FEATURES F7); made when it is first used. */
  diff(lower: ImmutableRef, upper: ImmutableRef | undefined, options?: NewRecordOptions): ImmutableRef;
  /** Records with metadata `key` = `value`, oldest first. */
  search(key: string, value: string): readonly RecordMetadata[];
  /** Records whose metadata `key` starts with `prefix`. */
  searchPrefix(key: string, prefix: string): readonly RecordMetadata[];
  metadata(id: string): RecordMetadata | undefined;
  diskUsage(options?: DiskUsageOptions): Promise<readonly UsageRecord[]>;
  /** The same in pages, in no set order. */
  diskUsagePages(options?: DiskUsageOptions): AsyncIterable<readonly UsageRecord[]>;
  /** Why records cannot be reclaimed now. @param builds what running builds hold */
  holders(builds: BuildsByRecord): Pick<Holders, 'reasons'>;
  /** Removes records rule by rule and yields each when it is gone; ends with a garbage collection. */
  prune(rules: readonly PruneOptions[], options?: { signal?: AbortSignal }): AsyncIterable<UsageRecord>;
  /**
   * Removes records that nobody uses, least recently used first, while the caller iterates; their bytes go with the
   * next garbage collection.
   */
  evict(options?: { signal?: AbortSignal }): AsyncIterable<UsageRecord>;
  /** Bytes of the records in use, without what is being written, and the largest of them. */
  inUse(signal?: AbortSignal): Promise<{ readonly bytes: number; readonly largest: readonly UsageRecord[] }>;
  /** Waits for background work; refs must be gone by then. */
  close(): Promise<void>;
}

/** Marks the error of a mutable that somebody else holds. */
export interface LockedError extends BuildError {
  readonly locked: true;
}
