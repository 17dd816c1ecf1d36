import { rm } from 'node:fs/promises';
import type { Digest } from '../base/digest.ts';
import { BuildError, Code, notFound } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import { SharedTask } from '../base/shared-task.ts';
import {
  annotationCreatedAt,
  annotationDescription,
  annotationUncompressed,
  type Descriptor,
} from '../oci/descriptor.ts';
import {
  annotationLabels,
  annotationsIn,
  LABEL_ESTARGZ,
  LABEL_MEDIA_TYPE,
  labelledType,
  recordType,
} from './blob-types.ts';
import { chainId, distributable, layerMediaType } from './compression.ts';
import { type CacheCore, variantsLease } from './core.ts';
import type { LiveRecord } from './live-record.ts';
import type { BlobForm } from './layer-jobs.ts';
import type { Compression, EnsureBlobsOptions, RefContext } from './ref.ts';
import { together } from './together.ts';
import { recordDescriptor, type Unlazier } from './unlazy.ts';

/** Layers that are compressed side by side: each keeps a core busy. */
const PARALLEL_BLOBS = 2;

/** Other form of a blob (FEATURES F8). */
const LABEL_VARIANT = 'containerd.io/gc.ref.content.blob-';

/** Makes the layer blobs of refs: what is missing by a diff, what has the wrong form by conversion, each once. */
export class BlobMaker {
  readonly #core: CacheCore;
  readonly #unlazier: Unlazier;
  readonly #slots = new Semaphore(PARALLEL_BLOBS);
  readonly #tasks = new Map<string, SharedTask<unknown>>();

  constructor(core: CacheCore, unlazier: Unlazier) {
    this.#core = core;
    this.#unlazier = unlazier;
  }

  async ensure(
    top: LiveRecord,
    options: EnsureBlobsOptions,
    context: RefContext,
  ): Promise<readonly Descriptor[]> {
    const form = blobForm(options.compression);
    if (options.create !== false) this.#core.finalize(top);
    const chain = top.chain();
    // One look at all of them: each error of its own would cost more than the look.
    if (options.create === false && chain.some(({ row }) => row.blob === null)) throw noBlobs();
    const descriptors = await together(
      chain.map((record) => async (signal) => {
        await this.#ensureBlob(record, form, options, signal);
        const variant = options.compression.force
          ? await this.#variant(record, form, options.create !== false, { ...context, signal })
          : undefined;
        return variant ?? recordDescriptor(record);
      }),
      context.signal,
    );
    const { table, leases } = this.#core.parts;
    return table.db.transaction(() => {
      this.setChainIds(chain);
      return chain.map((record, i) => {
        const descriptor = descriptors[i]!;
        leases.add(options.lease, { kind: 'content', id: descriptor.digest });
        return finished(record, descriptor, options.preferNonDistributable ?? false);
      });
    });
  }

  async #ensureBlob(
    record: LiveRecord,
    form: BlobForm,
    options: EnsureBlobsOptions,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (record.row.blob !== null && (await this.#canBeRead(record, signal))) return;
    if (options.create === false) throw noBlobs();
    await this.#once(`diff ${record.id}`, record, signal, (work) => this.#diff(record, form, work));
  }

  /**
   * Whether the record's blob is here and right, or can be brought. One that is lost is forgotten where the tree
   * is there to make another from. @throws DamagedRecordError where nothing is left
   */
  async #canBeRead(record: LiveRecord, signal: AbortSignal | undefined): Promise<boolean> {
    const { content, log } = this.#core.parts;
    const { blob } = record.row;
    if (blob === null) return false;
    if (await content.isSound(blob, signal ? { signal } : {})) return true;
    if (record.provider) return true;
    // Others may have looked at it at the same time.
    if (record.row.blob !== blob) return record.row.blob !== null;
    const made = record.kind === 'layer' ? this.#core.isExtracted(record) : true;
    if (!made) throw this.#core.damaged(record, `layer ${blob} is lost`);
    log.warn('a lost layer is made again from its tree', { id: record.id, blob });
    this.#forgetBlob(record, blob);
    return false;
  }

  /** Stacks of layers are named by what is in them: those with this one need new names. */
  #forgetBlob(record: LiveRecord, blob: Digest): void {
    const { table, leases } = this.#core.parts;
    table.db.transaction(() => {
      for (const id of table.standingOn(record.id)) {
        const row = id === record.id ? record.row : (this.#core.live(id)?.row ?? table.get(id));
        if (row) table.update(row, { chain_id: null, blob_chain_id: null });
      }
      const none = { blob: null, media_type: null, blob_size: null, diff_id: null };
      table.update(record.row, { ...none, annotations: '{}', urls: '[]', size: null });
      leases.drop(record.id, { kind: 'content', id: blob });
    });
  }

  /** Runs `work` once for all who want it now, in one of the slots. */
  async #once<T>(
    key: string,
    record: LiveRecord,
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    let task = this.#tasks.get(key) as SharedTask<T> | undefined;
    if (!task) {
      const made = new SharedTask<T>(async (own) => {
        try {
          return await this.#core.holding(record, () => this.#slots.run(() => work(own), own));
        } finally {
          if (this.#tasks.get(key) === made) this.#tasks.delete(key);
        }
      });
      task = made;
      this.#tasks.set(key, made);
    }
    return await task.join(signal);
  }

  async #diff(record: LiveRecord, form: BlobForm, signal: AbortSignal): Promise<void> {
    if (record.row.blob !== null) return;
    const { parts } = this.#core;
    const isLayer = record.kind === 'layer';
    const [lower, upper] = isLayer ? [record.parent, record] : [record.lower, record.upper];
    for (const side of [lower, upper]) if (side) await this.#unlazier.extract(side, { signal });
    const output = parts.content.tmpPath('layer');
    const file = await clearing(output, () =>
      parts.jobs.diff(
        {
          lower: lower && parts.snapshots.mounts(lower.snapshot),
          upper: upper && parts.snapshots.mounts(upper.snapshot),
          overlay: isLayer ? parts.snapshots.layout(record.snapshot) : undefined,
          output,
          form,
        },
        { signal },
      ),
    );
    await parts.content.commitFile(output, {
      digest: file.digest,
      size: file.size,
      lease: record.id,
      labels: { [annotationUncompressed]: file.diffId, [LABEL_ESTARGZ]: String(form.type === 'estargz') },
    });
    if (record.row.blob !== null) return;
    parts.table.update(record.row, {
      blob: file.digest,
      diff_id: file.diffId,
      media_type: layerMediaType(form.type),
      blob_size: file.size,
      annotations: JSON.stringify(file.annotations),
      size: null,
    });
  }

  /** The record's layer in the wanted form; undefined when its blob has it already. */
  async #variant(
    record: LiveRecord,
    form: BlobForm,
    create: boolean,
    context: RefContext,
  ): Promise<Descriptor | undefined> {
    const { row } = record;
    const { content } = this.#core.parts;
    if (recordType(row, content) === form.type) return undefined;
    const options = context.signal ? { signal: context.signal } : {};
    for (;;) {
      const known = this.#findVariant(row.blob!, form.type);
      if (known === undefined) break;
      // A damaged one is gone afterwards.
      if (await content.isSound(known, options)) return this.#variantDescriptor(record, known, form);
    }
    if (!create) throw notFound(`no ${form.type} blob of ${row.blob}`);
    await this.#unlazier.download(record, context);
    const digest = await this.#once(
      `convert ${row.blob} ${form.type} ${form.level ?? ''}`,
      record,
      context.signal,
      (own) => this.#convert(record, form, own),
    );
    return this.#variantDescriptor(record, digest, form);
  }

  #findVariant(blob: Digest, type: string): Digest | undefined {
    const { content } = this.#core.parts;
    for (const digest of this.variants(blob)) {
      const info = content.info(digest);
      if (info && labelledType(info.labels) === type) return digest;
    }
    return undefined;
  }

  /** Other forms of a blob that are in the content store, without itself. */
  variants(blob: Digest): Digest[] {
    const { content } = this.#core.parts;
    const seen = new Set<string>([blob]);
    for (const digest of seen)
      for (const [key, value] of Object.entries(content.info(digest as Digest)?.labels ?? {}))
        if (key.startsWith(LABEL_VARIANT) && content.has(value as Digest)) seen.add(value);
    seen.delete(blob);
    return [...seen] as Digest[];
  }

  #variantDescriptor(record: LiveRecord, digest: Digest, form: BlobForm): Descriptor {
    const { leases, content, table } = this.#core.parts;
    const lease = variantsLease(record.id);
    if (!leases.get(lease)) leases.create({ id: lease });
    leases.add(lease, { kind: 'content', id: digest });
    if (record.row.size !== null) table.update(record.row, { size: null });
    const { size = 0, labels = {} } = content.info(digest) ?? {};
    // Not the record's: a table of contents is unpacked, too.
    const diffId = labels[annotationUncompressed] ?? record.row.diff_id ?? digest;
    return {
      mediaType: layerMediaType(form.type),
      digest,
      size,
      annotations: { ...annotationsIn(labels), [annotationUncompressed]: diffId },
    };
  }

  async #convert(record: LiveRecord, form: BlobForm, signal: AbortSignal): Promise<Digest> {
    const { content, leases, jobs, table } = this.#core.parts;
    const { row } = record;
    const blob = row.blob!;
    const type = recordType(row, content);
    const output = content.tmpPath('variant');
    const file = await clearing(output, () =>
      jobs.convert({ blob: content.path(blob), mediaType: row.media_type ?? '', output, form }, { signal }),
    );
    if (row.diff_id !== null && type !== 'estargz' && file.archiveDigest !== row.diff_id)
      throw new BuildError(`layer ${blob} holds ${file.archiveDigest}, expected ${row.diff_id}`, {
        code: Code.dataLoss,
      });
    using work = leases.hold();
    await content.commitFile(output, {
      digest: file.digest,
      size: file.size,
      lease: work.id,
      labels: {
        [annotationUncompressed]: file.diffId,
        [LABEL_MEDIA_TYPE]: layerMediaType(form.type),
        [LABEL_ESTARGZ]: String(form.type === 'estargz'),
        ...annotationLabels(file.annotations),
      },
    });
    table.db.transaction(() => {
      this.#variantDescriptor(record, file.digest, form);
      content.updateLabels(blob, {
        [LABEL_VARIANT + file.digest]: file.digest,
        [LABEL_MEDIA_TYPE]: row.media_type,
        [LABEL_ESTARGZ]: String(type === 'estargz'),
        ...annotationLabels(JSON.parse(row.annotations) as Record<string, string>),
      });
      content.updateLabels(file.digest, { [LABEL_VARIANT + blob]: blob });
    });
    return file.digest;
  }

  /** Names the stacks of the layers of a chain, as far as their blobs are known. */
  setChainIds(chain: readonly LiveRecord[]): void {
    for (const { kind, row, parent } of chain) {
      if (kind !== 'layer' || row.chain_id !== null) continue;
      const below = parent && stackIds(parent);
      const own =
        row.blob !== null && row.diff_id !== null ? stackOn(below, row.blob, row.diff_id) : undefined;
      if (own && (below || !parent))
        this.#core.parts.table.update(row, { chain_id: own.chain, blob_chain_id: own.blobChain });
    }
  }
}

interface StackIds {
  readonly chain: Digest;
  readonly blobChain: Digest;
}

function stackOn(below: StackIds | undefined, blob: Digest, diffId: Digest): StackIds {
  return {
    chain: chainId(below?.chain, diffId),
    blobChain: chainId(below?.blobChain, chainId(blob, diffId)),
  };
}

/** Of all layers up to this record; undefined while a blob is unknown. */
function stackIds(record: LiveRecord): StackIds | undefined {
  if (record.kind === 'layer') {
    const { chain_id: chain, blob_chain_id: blobChain } = record.row;
    return chain !== null && blobChain !== null ? { chain, blobChain } : undefined;
  }
  let stack: StackIds | undefined;
  for (const { row } of record.chain()) {
    if (row.blob === null || row.diff_id === null) return undefined;
    stack = stackOn(stack, row.blob, row.diff_id);
  }
  return stack;
}

/** Removes a half-written file when `work` fails. */
async function clearing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

function blobForm(compression: Compression): BlobForm {
  const { type, level } = compression;
  return level === undefined ? { type } : { type, level };
}

function finished(record: LiveRecord, descriptor: Descriptor, keepForeign: boolean): Descriptor {
  const { row } = record;
  const { urls, ...rest } = descriptor;
  return {
    ...rest,
    mediaType: keepForeign ? descriptor.mediaType : distributable(descriptor.mediaType),
    ...(keepForeign && urls ? { urls } : {}),
    annotations: {
      ...descriptor.annotations,
      [annotationCreatedAt]: new Date(row.created_at).toISOString().replace(/\.?0*Z$/, 'Z'),
      ...(row.description === '' ? {} : { [annotationDescription]: row.description }),
    },
  };
}

function noBlobs(): BuildError {
  return notFound('no blobs for snapshot');
}
