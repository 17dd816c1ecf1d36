import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { Unsettled } from '../archive/settle.ts';
import type { Digest } from '../base/digest.ts';
import { BuildError, Code, hasCode } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import { SharedTask } from '../base/shared-task.ts';
import { annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { combineTrees, stepsOf } from './combine-trees.ts';
import type { CacheCore } from './core.ts';
import type { LiveRecord } from './live-record.ts';
import { MissingProvidersError } from './core.ts';
import type { LayerProgress, RefContext } from './ref.ts';
import { together } from './together.ts';

interface Shared {
  readonly task: SharedTask<void>;
  /** Who is told: the provider's progress always, and that of those who wait. */
  readonly listeners: Set<LayerProgress>;
  readonly waiters: Set<LayerProgress>;
  /** End of the newest run: one that was given up may still be clearing away when the next begins. */
  last: Promise<void>;
}

/** Layers that are unpacked at once ahead of their parents, beside the one whose turn it is. */
const PARALLEL_AHEAD = Math.max(1, availableParallelism() - 1);
/** Life of what was unpacked when the daemon is killed and not started again; a start ends it. */
const UNPACKED_LEASE_MS = 7 * 24 * 60 * 60 * 1000;

/** A layer in an active snapshot of its own. */
interface Unpacked {
  readonly key: string;
  /** Holds it; to be given back once it is committed, or not wanted. */
  readonly lease: Disposable;
  /** It stands on nothing yet. */
  readonly ahead: boolean;
  readonly unsettled: Unsettled | undefined;
}

/** Brings lazy layers: blobs into the content store, trees into the snapshotter, each once for all who want it. */
export class Unlazier {
  readonly #core: CacheCore;
  readonly #downloads = new Map<string, Shared>();
  readonly #extractions = new Map<string, Shared>();
  readonly #ahead = new Semaphore(PARALLEL_AHEAD);

  constructor(core: CacheCore) {
    this.#core = core;
  }

  /** The record's blob is in the content store afterwards. */
  async download(record: LiveRecord, context: RefContext = {}): Promise<void> {
    const { blob } = record.row;
    if (blob === null || this.#core.parts.content.has(blob)) return;
    await this.#share(this.#downloads, blob, record, context, (signal, progress) =>
      this.#download(record, blob, signal, progress),
    );
  }

  /**
   * The trees of the record's whole chain are there afterwards. Layers are downloaded and, where the snapshotter
   * can put one on its parent later, unpacked side by side; their snapshots are committed from the bottom up.
   */
  async extract(record: LiveRecord, context: RefContext = {}): Promise<void> {
    await this.#bring(record, context, record);
  }

  /** `top` is the record that is wanted in the first place. */
  async #bring(record: LiveRecord, context: RefContext, top: LiveRecord): Promise<void> {
    const { snapshots } = this.#core.parts;
    if (this.#core.isExtracted(record)) {
      const lost = snapshots.lost(record.snapshot);
      return lost.length === 0 ? undefined : await this.#mend(record, lost, context, top);
    }
    if (record.kind === 'layer' && record.row.blob === null)
      throw this.#core.damaged(record, `snapshot ${record.row.snapshot} is lost and has no blob`);
    await this.#share(this.#extractions, record.row.snapshot, record, context, (signal, progress, inner) =>
      record.kind === 'layer'
        ? this.#extract(record, signal, progress, inner)
        : this.#combine(record, signal, progress, inner, top),
    );
    if (record.row.blob_only === 1) this.#core.parts.table.update(record.row, { blob_only: 0, size: null });
  }

  /** Makes lost trees below the record's own again, each from its record's blob. */
  async #mend(
    record: LiveRecord,
    lost: readonly string[],
    context: RefContext,
    top: LiveRecord,
  ): Promise<void> {
    const records = [...record.ancestors()];
    for (const name of lost) {
      const owner = records.find((one) => one.snapshot === name);
      if (!owner) throw this.#core.damaged(record, `snapshot ${name} below it is lost`);
      await this.#bring(owner, context, top);
    }
  }

  async #share(
    map: Map<string, Shared>,
    key: string,
    record: LiveRecord,
    context: RefContext,
    work: (signal: AbortSignal, progress: LayerProgress, inner: RefContext) => Promise<void>,
  ): Promise<void> {
    let shared = map.get(key);
    if (!shared) {
      const made: Shared = {
        listeners: new Set(),
        waiters: new Set(),
        last: Promise.resolve(),
        task: new SharedTask(async (signal) => {
          const before = made.last;
          const done = Promise.withResolvers<void>();
          made.last = done.promise;
          await before;
          try {
            await this.#core.holding(record, () =>
              work(signal, broadcast(made.listeners), { progress: broadcast(made.waiters) }),
            );
          } finally {
            done.resolve();
            if (map.get(key) === made && made.last === done.promise) map.delete(key);
          }
        }),
      };
      shared = made;
      map.set(key, shared);
    }
    if (record.provider?.progress) shared.listeners.add(record.provider.progress);
    if (context.progress) {
      shared.listeners.add(context.progress);
      shared.waiters.add(context.progress);
    }
    await shared.task.join(context.signal);
  }

  async #download(
    record: LiveRecord,
    blob: Digest,
    signal: AbortSignal,
    progress: LayerProgress,
  ): Promise<void> {
    const { row } = record;
    if (!record.provider) throw new MissingProvidersError([blob]);
    const total = row.blob_size ?? 0;
    await using writer = await this.#core.parts.content.writer({
      ref: `layer-${blob}`,
      expected: blob,
      ownsChunks: true,
      ...(total > 0 ? { total } : {}),
    });
    progress.download(blob, writer.offset, total, false);
    if (writer.offset < total || total === 0)
      for await (const chunk of provided(record, () => writer.offset, signal)) {
        signal.throwIfAborted();
        await writer.write(chunk);
        progress.download(blob, writer.offset, total, false);
      }
    // What a power cut takes of it is noticed, and can be brought again: nobody waits for the disk.
    const { size } = await writer.commit({ lease: record.id, labels: blobLabels(record), volatile: true });
    this.#core.parts.table.update(row, { size: null });
    progress.download(blob, size, size, true);
  }

  async #extract(
    record: LiveRecord,
    signal: AbortSignal,
    progress: LayerProgress,
    inner: RefContext,
  ): Promise<void> {
    const { parent, row } = record;
    const { snapshots } = this.#core.parts;
    const unpack = async (below: LiveRecord | undefined, own: AbortSignal): Promise<Unpacked | undefined> => {
      progress.extract(row.blob!, false);
      try {
        return await this.#unpack(record, below, own);
      } catch (error) {
        own.throwIfAborted();
        if (await this.#core.parts.content.verify(row.blob!, { signal: own })) throw error;
        // The bytes were to blame: once more with those of the provider, which are compared with the digest.
        if (!record.provider) throw this.#core.damaged(record, `layer ${row.blob} is damaged`, error);
        await this.download(record, { ...inner, signal: own });
        return await this.#unpack(record, below, own);
      }
    };
    this.#core.parts.jobs.warm?.();
    using stack = new DisposableStack();
    let ahead: Unpacked | undefined;
    const parentIsThere = new AbortController();
    await together(
      [
        async (own) => {
          if (parent) await this.#bring(parent, { ...inner, signal: own }, record);
          parentIsThere.abort();
        },
        async (own) => {
          await this.download(record, { ...inner, signal: own });
          if (!parent || !snapshots.canRebase) return;
          // What a layer needs of those below it can be done last.
          using slot = await this.#slotAhead(parentIsThere.signal, own);
          if (slot) ahead = await unpack(undefined, own);
          if (ahead) stack.use(ahead.lease);
        },
      ],
      signal,
    );
    const unpacked = ahead ?? (await unpack(parent, signal));
    if (!unpacked) throw new BuildError(`layer ${row.blob} was not unpacked`);
    if (unpacked !== ahead) stack.use(unpacked.lease);
    await this.#commit(record, unpacked, signal);
    progress.extract(row.blob!, true);
  }

  /** Undefined when the parent is there first. */
  async #slotAhead(parentIsThere: AbortSignal, signal: AbortSignal): Promise<Disposable | undefined> {
    try {
      return await this.#ahead.acquire(AbortSignal.any([parentIsThere, signal]));
    } catch {
      signal.throwIfAborted();
      return undefined;
    }
  }

  /**
   * @param below what the new snapshot is made on: the record's parent, or nothing to be ahead of that
   * @returns undefined for a layer of which too much depends on its parent to be ahead
   */
  async #unpack(
    { row, parent }: LiveRecord,
    below: LiveRecord | undefined,
    signal: AbortSignal,
  ): Promise<Unpacked | undefined> {
    const blob = row.blob!;
    const ahead = below !== parent;
    const { content, snapshots, leases, jobs } = this.#core.parts;
    using stack = new DisposableStack();
    // Of what is ahead nobody knows how long it will have to wait.
    const lease = stack.use(leases.hold({ expiresInMs: UNPACKED_LEASE_MS }));
    const key = `extract-${randomBytes(8).toString('hex')}`;
    await snapshots.prepare(key, below?.row.snapshot, { lease: lease.id, signal });
    const { diffId, unsettled, tooMuch } = await jobs.apply(
      {
        blob: content.path(blob),
        mediaType: row.media_type ?? '',
        mounts: snapshots.mounts(key),
        overlay: snapshots.layout(key),
        ahead,
      },
      { signal },
    );
    if (tooMuch) return undefined;
    if (diffId !== row.diff_id)
      throw new BuildError(`layer ${blob} unpacks to ${diffId}, expected ${row.diff_id}`, {
        code: Code.failedPrecondition,
      });
    stack.move();
    return { key, lease, ahead, unsettled };
  }

  async #commit(
    { parent, row }: LiveRecord,
    { key, ahead, unsettled }: Unpacked,
    signal: AbortSignal,
  ): Promise<void> {
    const { snapshots, jobs } = this.#core.parts;
    const onto = ahead ? parent?.row.snapshot : undefined;
    const layout = snapshots.layout(key);
    const below = onto === undefined ? undefined : snapshots.layout(onto);
    if (unsettled && layout && below) {
      const lowerDirs = [below.upperDir, ...below.lowerDirs];
      await jobs.settle({ overlay: { ...layout, lowerDirs }, unsettled }, { signal });
    }
    try {
      snapshots.commit(row.snapshot, key, undefined, onto);
    } catch (error) {
      // Another record has brought the same tree meanwhile.
      if (!hasCode(error, Code.alreadyExists)) throw error;
    }
  }

  /** Brings the trees that a merge or diff is made from, then makes its own. */
  async #combine(
    record: LiveRecord,
    signal: AbortSignal,
    progress: LayerProgress,
    inner: RefContext,
    top: LiveRecord,
  ): Promise<void> {
    const steps = stepsOf(record);
    const needed = new Set(steps.flatMap(({ lower, upper }) => [lower, upper]));
    await together(
      [...needed].map((one) => async (own) => {
        if (one) await this.#bring(one, { ...inner, signal: own }, top);
      }),
      signal,
    );
    const action = record.kind === 'merge' ? 'merging' : 'diffing';
    const id = record === top ? action : record.row.description || `${action} ${record.id}`;
    progress.combine(action, id, false);
    try {
      await combineTrees(this.#core.parts, record.row.snapshot, steps, signal);
    } finally {
      progress.combine(action, id, true);
    }
  }
}

/**
 * The record's bytes from `offset` on. When they stop coming and another build has brought a provider of its own
 * meanwhile, that one goes on: the client who lent the first may just have left.
 */
async function* provided(
  record: LiveRecord,
  offset: () => number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  for (;;) {
    const { provider } = record;
    if (!provider) return;
    try {
      yield* provider.open(recordDescriptor(record), offset(), { signal });
      return;
    } catch (error) {
      if (signal.aborted || record.provider === provider) throw error;
    }
  }
}

function broadcast(listeners: ReadonlySet<LayerProgress>): LayerProgress {
  return {
    download: (digest, current, total, done) => {
      for (const one of listeners) one.download(digest, current, total, done);
    },
    extract: (digest, done) => {
      for (const one of listeners) one.extract(digest, done);
    },
    combine: (action, id, done) => {
      for (const one of listeners) one.combine(action, id, done);
    },
  };
}

/** Descriptor of the record's blob as it was given or made. */
export function recordDescriptor(record: LiveRecord): Descriptor {
  const { row } = record;
  const urls = JSON.parse(row.urls) as string[];
  return {
    mediaType: row.media_type ?? '',
    digest: row.blob!,
    size: row.blob_size ?? 0,
    ...(urls.length > 0 ? { urls } : {}),
    annotations: {
      ...(JSON.parse(row.annotations) as Record<string, string>),
      ...(row.diff_id === null ? {} : { [annotationUncompressed]: row.diff_id }),
    },
  };
}

/** Labels of a layer blob in the content store: what it unpacks to and where it came from (FEATURES F10). */
function blobLabels({ row }: LiveRecord): Record<string, string> {
  const origin = JSON.parse(row.annotations) as Record<string, string>;
  return { ...origin, ...(row.diff_id === null ? {} : { [annotationUncompressed]: row.diff_id }) };
}
