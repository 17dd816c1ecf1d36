import { BuildError, invalidArgument } from '../base/errors.ts';
import { type ContentIndexes, contentIndexKey } from '../cache/content-indexes.ts';
import type { TreeChange } from '../cache/contenthash-index.ts';
import type { ImmutableRef, MutableRef, RefManager, RefMounts } from '../cache/ref.ts';
import type { OpContext } from '../solver/types.ts';
import { localKey } from './keys.ts';
import type { SourceInstance, SourceKey } from './source.ts';

/** Metadata key by which the tree of an earlier transfer is found, so that only differences are sent. */
export const localSharedKey = 'local-shared-key';
/** Metadata key of a tree that a transfer has begun to change: after a crash nobody may start from it. */
const transferKey = 'local-transfer';
const PROGRESS_INTERVAL_MS = 100;

export interface LocalSourceSpec {
  readonly name: string;
  /** '' = any session of the build. */
  readonly sessionId: string;
  readonly includePatterns: readonly string[] | null;
  readonly excludePatterns: readonly string[] | null;
  readonly followPaths: readonly string[] | null;
  readonly sharedKeyHint: string;
  readonly differ: 'none' | 'metadata';
  /** Only metadata travels, but for files that these patterns match (FEATURES C13). */
  readonly metadataOnly?: readonly string[];
}

/** A client's folder, reached through one of its sessions. */
export interface LocalCaller {
  readonly sharedKey: string;
  /** Makes `dest` equal to the filtered folder. `onProgress` counts bytes received. */
  receive(request: LocalTransfer): Promise<void>;
}

export interface LocalTransfer {
  readonly name: string;
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  readonly followPaths: readonly string[];
  readonly differ: 'none' | 'metadata';
  readonly metadataOnly?: readonly string[];
  readonly dest: string;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
  /** Told of every entry written or removed. */
  readonly onChange: (change: TreeChange) => void;
}

export interface LocalSourceServices {
  readonly refs: RefManager;
  /** Runs `work` with the named session, or (not there, or '') with the first of the build's that succeeds. */
  readonly withSession: <T>(
    sessionId: string,
    context: OpContext,
    work: (caller: LocalCaller) => Promise<T>,
  ) => Promise<T>;
  /** Keeps known content digests in step with the trees. */
  readonly contentIndexes: Pick<ContentIndexes, 'update' | 'drop'>;
  readonly mountLocally: (view: RefMounts) => Promise<{ readonly path: string; release(): Promise<void> }>;
}

/** Attributes of `local://NAME` (FEATURES D31). */
export function parseLocalSource(name: string, attrs: Readonly<Record<string, string>>): LocalSourceSpec {
  const differ = attrs['local.differ'] ?? '';
  if (differ !== '' && differ !== 'none' && differ !== 'metadata') {
    throw invalidArgument(`invalid local.differ: ${JSON.stringify(differ)}`);
  }
  return {
    name,
    sessionId: attrs['local.session'] ?? '',
    includePatterns: patterns(attrs, 'local.includepattern'),
    excludePatterns: patterns(attrs, 'local.excludepatterns'),
    followPaths: patterns(attrs, 'local.followpaths'),
    sharedKeyHint: attrs['local.sharedkeyhint'] ?? '',
    differ: differ === 'none' ? 'none' : 'metadata',
    ...(attrs['local.metadatatransfer'] === 'true'
      ? { metadataOnly: patterns(attrs, 'local.metadatatransferexclude') ?? [] }
      : {}),
  };
}

function patterns(attrs: Readonly<Record<string, string>>, key: string): readonly string[] | null {
  const text = attrs[key];
  if (text === undefined) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalidArgument(`invalid ${key}: not JSON`, cause);
  }
  if (value === null) return null;
  if (!Array.isArray(value) || !value.every((v) => typeof v === 'string')) {
    throw invalidArgument(`invalid ${key}: not a list of strings`);
  }
  return value;
}

/** A folder of the client (FEATURES D40), kept between builds so that only differences travel. */
export class LocalSource implements SourceInstance {
  readonly #spec: LocalSourceSpec;
  readonly #services: LocalSourceServices;

  constructor(spec: LocalSourceSpec, services: LocalSourceServices) {
    this.#spec = spec;
    this.#services = services;
  }

  async cacheKey(_index: number, context: OpContext): Promise<SourceKey> {
    const spec = this.#spec;
    const sessionId = spec.sessionId || context.sessions()[0];
    if (!sessionId) throw new BuildError('could not access local files without session');
    const { key, pin } = localKey({
      name: spec.name,
      sessionId,
      ...(spec.includePatterns ? { includePatterns: spec.includePatterns } : {}),
      ...(spec.excludePatterns ? { excludePatterns: spec.excludePatterns } : {}),
      ...(spec.followPaths ? { followPaths: spec.followPaths } : {}),
      ...(spec.metadataOnly ? { metadataOnly: true, metadataExceptions: spec.metadataOnly } : {}),
    });
    return { key, pin, done: true };
  }

  snapshot(context: OpContext): Promise<ImmutableRef> {
    return this.#services.withSession(this.#spec.sessionId, context, (caller) =>
      this.#transfer(caller, context),
    );
  }

  async #transfer(caller: LocalCaller, context: OpContext): Promise<ImmutableRef> {
    const key = `${this.#spec.name}:${this.#spec.sharedKeyHint}:${caller.sharedKey}${this.#spec.metadataOnly ? ':metadata' : ''}`;
    const mutable = await this.#tree(key, context);
    try {
      mutable.record.set(transferKey, 'begun');
      await this.#receive(caller, mutable, context);
      mutable.record.set(transferKey, undefined);
      if (mutable.record.get(localSharedKey) !== key) mutable.record.set(localSharedKey, key);
    } catch (error) {
      await this.#giveUp(mutable);
      throw error;
    }
    const index = mutable.id;
    const ref = await mutable.commit();
    ref.record.set(contentIndexKey, index);
    return ref;
  }

  async #tree(key: string, context: OpContext): Promise<MutableRef> {
    for (const record of this.#services.refs.search(localSharedKey, key)) {
      try {
        const tree = await this.#services.refs.getMutable(record.id);
        if (record.get(transferKey) === undefined) return tree;
        await this.#giveUp(tree);
      } catch {
        // Held by a build that runs now, or damaged: a new tree will do.
      }
    }
    const options = {
      type: 'source.local' as const,
      description: `local source for ${this.#spec.name}`,
      retain: true,
    };
    return this.#services.refs.newMutable(undefined, options, { signal: context.signal });
  }

  /** Half a transfer: its files and the digests known of them differ. */
  async #giveUp(tree: MutableRef): Promise<void> {
    tree.record.retain = false;
    tree.record.set(localSharedKey, undefined);
    this.#services.contentIndexes.drop(tree.id);
    await tree.release();
  }

  async #receive(caller: LocalCaller, mutable: MutableRef, context: OpContext): Promise<void> {
    const id = `transferring ${this.#spec.name}:`;
    let shown = 0;
    let bytes = 0;
    const changes: TreeChange[] = [];
    context.progress.status(id, { name: 'transferring', current: 0 });
    const tree = await this.#services.mountLocally(await mutable.mount(false, { signal: context.signal }));
    try {
      await caller.receive({
        name: this.#spec.name,
        includePatterns: this.#spec.includePatterns ?? [],
        excludePatterns: this.#spec.excludePatterns ?? [],
        followPaths: this.#spec.followPaths ?? [],
        differ: this.#spec.differ,
        ...(this.#spec.metadataOnly ? { metadataOnly: this.#spec.metadataOnly } : {}),
        dest: tree.path,
        signal: context.signal,
        onChange: (change) => changes.push(change),
        onProgress: (total) => {
          bytes = total;
          const now = Date.now();
          if (now - shown < PROGRESS_INTERVAL_MS) return;
          shown = now;
          context.progress.status(id, { name: 'transferring', current: total });
        },
      });
    } finally {
      // Also of a failed transfer: clients show a step's error once nothing of it goes on.
      context.progress.status(id, { name: 'transferring', current: bytes, done: true });
      await tree.release();
    }
    await this.#services.contentIndexes.update(mutable.id, changes, context.signal);
  }
}
