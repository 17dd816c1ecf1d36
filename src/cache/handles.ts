import type { Digest } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Mount } from '../oci/mount.ts';
import { readonlyMounts } from '../store/local-mounter.ts';
import type { BlobMaker } from './blobs.ts';
import type { CacheCore } from './core.ts';
import type { LiveRecord } from './live-record.ts';
import type { RecordMetadata } from './metadata.ts';
import type {
  BlobProvider,
  EnsureBlobsOptions,
  ImmutableRef,
  LayerInfo,
  MutableRef,
  RefContext,
  RefMounts,
} from './ref.ts';
import type { SharedMounts } from './shared-mounts.ts';
import { together } from './together.ts';
import type { Unlazier } from './unlazy.ts';
import type { UsageMeter } from './usage.ts';

/** What handles need of the manager. */
export interface HandleHost {
  readonly core: CacheCore;
  readonly unlazier: Unlazier;
  readonly blobs: BlobMaker;
  readonly meter: UsageMeter;
  readonly shared: SharedMounts;
  /** Ends the mutable record: kept when retained, else removed. */
  releaseMutable(record: LiveRecord): void;
  commitMutable(record: LiveRecord, passing: boolean): LiveRecord;
}

function plainMounts(mounts: readonly Mount[]): RefMounts {
  return { mounts, release: async () => {}, [Symbol.asyncDispose]: async () => {} };
}

abstract class Handle {
  protected readonly host: HandleHost;
  readonly #live: LiveRecord;
  #open = true;

  constructor(host: HandleHost, record: LiveRecord) {
    this.host = host;
    this.#live = record;
    host.core.hold(record);
  }

  get id(): string {
    return this.#live.id;
  }

  get record(): RecordMetadata {
    return this.#live.metadata;
  }

  /** The record; an internal error once the handle is released. */
  protected get live(): LiveRecord {
    if (!this.#open)
      throw new BuildError(`ref ${this.#live.id} is used after its release`, { code: Code.internal });
    return this.#live;
  }

  protected end(): void {
    const record = this.live;
    this.#open = false;
    this.released(record);
  }

  protected abstract released(record: LiveRecord): void;

  async release(): Promise<void> {
    this.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#open) await this.release();
  }
}

export class ImmutableHandle extends Handle implements ImmutableRef {
  readonly kind = 'immutable';
  readonly #counts: boolean;

  constructor(host: HandleHost, record: LiveRecord, counts: boolean) {
    super(host, record);
    this.#counts = counts;
    if (counts) record.countingUsers++;
  }

  clone(): ImmutableRef {
    return new ImmutableHandle(this.host, this.live, this.#counts);
  }

  /** For the manager: the record behind a ref of its own. */
  static recordOf(ref: ImmutableRef): LiveRecord | undefined {
    return ref instanceof ImmutableHandle ? ref.live : undefined;
  }

  async mount(_readonly: boolean, context: RefContext = {}): Promise<RefMounts> {
    const record = this.live;
    await this.host.unlazier.extract(record, context);
    const mounts = this.host.core.parts.snapshots.mounts(record.snapshot);
    return plainMounts(record.equalMutable ? readonlyMounts(mounts) : mounts);
  }

  async extract(context: RefContext = {}): Promise<void> {
    await this.host.unlazier.extract(this.live, context);
  }

  async finalize(): Promise<void> {
    this.host.core.finalize(this.live);
  }

  layerChain(): readonly LayerInfo[] {
    return this.live.chain().map(({ row }) => ({
      recordId: row.id,
      blob: row.blob ?? undefined,
      diffId: row.diff_id ?? undefined,
      chainId: row.chain_id ?? undefined,
      blobChainId: row.blob_chain_id ?? undefined,
      mediaType: row.media_type ?? undefined,
      size: row.blob_size ?? undefined,
      createdAt: new Date(row.created_at),
      description: row.description,
      urls: JSON.parse(row.urls) as string[],
    }));
  }

  async ensureBlobs(options: EnsureBlobsOptions, context: RefContext = {}): Promise<readonly Descriptor[]> {
    const record = this.live;
    return await this.host.core.holding(record, () => this.host.blobs.ensure(record, options, context));
  }

  async ensureLocalBlobs(context: RefContext = {}): Promise<void> {
    const downloads = [...this.lazyBlobs().values()].map(
      (bring) => (signal: AbortSignal) => bring({ ...context, signal }),
    );
    await together(downloads, context.signal);
  }

  lazyBlobs(): ReadonlyMap<Digest, (context?: RefContext) => Promise<void>> {
    const { core, unlazier } = this.host;
    const found = new Map<Digest, (context?: RefContext) => Promise<void>>();
    for (const record of this.live.chain()) {
      const { blob } = record.row;
      if (blob !== null && !core.parts.content.has(blob))
        found.set(blob, (context) => core.holding(record, () => unlazier.download(record, context)));
    }
    return found;
  }

  providers(): ReadonlyMap<Digest, BlobProvider> {
    const { content } = this.host.core.parts;
    const found = new Map<Digest, BlobProvider>();
    for (const { row, provider } of this.live.chain())
      if (provider && row.blob !== null && !content.has(row.blob)) found.set(row.blob, provider);
    return found;
  }

  async size(context: RefContext = {}): Promise<number> {
    const record = this.live;
    return await this.host.core.holding(record, () => this.host.meter.size(record.row, context.signal));
  }

  protected released(record: LiveRecord): void {
    if (this.#counts && --record.countingUsers === 0) {
      this.host.core.countUse(record);
      if (record.equalMutable) this.host.core.countUse(record.equalMutable);
    }
    this.host.core.letGo(record);
  }
}

export class MutableHandle extends Handle implements MutableRef {
  readonly kind = 'mutable';

  async mount(readonly: boolean, context: RefContext & { shared?: boolean } = {}): Promise<RefMounts> {
    const record = this.live;
    context.signal?.throwIfAborted();
    const mounts = this.host.core.parts.snapshots.mounts(record.row.snapshot);
    if (context.shared && mounts.some((mount) => mount.type === 'overlay'))
      return await this.host.shared.take(record.row.snapshot, mounts, readonly);
    return plainMounts(readonly ? readonlyMounts(mounts) : mounts);
  }

  async commit({ passing = false } = {}): Promise<ImmutableRef> {
    const record = this.live;
    const committed = this.host.commitMutable(record, passing);
    const handle = new ImmutableHandle(this.host, committed, true);
    this.#committed = true;
    this.end();
    return handle;
  }

  #committed = false;

  protected released(record: LiveRecord): void {
    if (!this.#committed) {
      this.host.core.countUse(record);
      this.host.core.letGo(record);
      this.host.releaseMutable(record);
    } else this.host.core.letGo(record);
  }
}
