import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, invalidArgument } from '../base/errors.ts';
import type { ImmutableRef, LockedError, MutableRef, RefManager, RefMounts } from '../cache/ref.ts';
import type { Mount as LlbMount } from '../llb/ops.ts';

/** Metadata key by which the directory of a cache mount is found again. */
export const cacheDirKey = 'cache-dir';
const LOCKED_RETRY_MS = 100;
const SHARED = 0;
const PRIVATE = 1;
const LOCKED = 2;

/** One step's hold on a cache directory. */
export interface CacheDir {
  mount(readonly: boolean): Promise<RefMounts>;
  release(): Promise<void>;
}

/** A directory that several steps use at once, given back when the last of them is done. */
interface SharedDir {
  readonly ref: Promise<MutableRef>;
  users: number;
}

/**
 * Cache mounts of a worker (FEATURES G17): shared directories are used by all steps at the same time,
 * private ones by one step each, locked ones by one step after the other.
 */
export class CacheMounts {
  readonly #refs: RefManager;
  readonly #shared = new Map<string, SharedDir>();
  /** Serialises finding and making directories of one key. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(refs: RefManager) {
    this.#refs = refs;
  }

  async open(
    llb: LlbMount,
    base: ImmutableRef | undefined,
    description: string,
    signal: AbortSignal,
  ): Promise<CacheDir> {
    const opt = llb.cacheOpt;
    if (!opt) throw invalidArgument('missing cache mount options');
    const key = directoryKey(opt.ID, base);
    const request = { key, base, description, signal };
    switch (opt.sharing) {
      case SHARED:
        return this.#openShared(request);
      case PRIVATE:
        return ownDir(await this.#find(request, false));
      case LOCKED:
        return ownDir(await this.#find(request, true));
      default:
        throw invalidArgument(`invalid cache sharing option: ${opt.sharing}`);
    }
  }

  /** Makes the directories of these ids unfindable, so that the next step starts empty (`--no-cache`). */
  forget(mounts: readonly { readonly id: string; readonly withBase: boolean }[]): void {
    for (const { id, withBase } of mounts) {
      const found = withBase
        ? this.#refs.searchPrefix(cacheDirKey, `${id}:`)
        : this.#refs.search(cacheDirKey, id);
      for (const record of found) {
        record.set(cacheDirKey, undefined);
        record.retain = false;
        // Gone with its last user; without any, now.
        this.#refs
          .getMutable(record.id)
          .then((ref) => ref.release())
          .catch(() => {}); // it is in use, or damaged
      }
      for (const key of this.#shared.keys()) {
        if (withBase ? key.startsWith(`${id}:`) : key === id) this.#shared.delete(key);
      }
    }
  }

  async #openShared(request: Request): Promise<CacheDir> {
    let dir = this.#shared.get(request.key);
    if (!dir) {
      // Not tied to this step's signal: others may join while it is being made.
      const ref = this.#find({ ...request, signal: new AbortController().signal }, false);
      dir = { ref, users: 0 };
      this.#shared.set(request.key, dir);
      const made = dir;
      ref.catch(() => this.#shared.get(request.key) === made && this.#shared.delete(request.key));
    }
    const shared = dir;
    shared.users++;
    const ref = await shared.ref;
    return {
      mount: (readonly) => ref.mount(readonly, { shared: true }),
      release: async () => {
        if (--shared.users > 0) return;
        if (this.#shared.get(request.key) === shared) this.#shared.delete(request.key);
        await ref.release();
      },
    };
  }

  async #find(request: Request, wait: boolean): Promise<MutableRef> {
    for (;;) {
      request.signal.throwIfAborted();
      const found = await this.#inTurn(request.key, () => this.#tryFind(request, wait));
      if (found) return found;
      await sleep(LOCKED_RETRY_MS, undefined, { signal: request.signal });
    }
  }

  /** A free directory, else a new one; undefined when all are held and the caller wants to wait. */
  async #tryFind(request: Request, wait: boolean): Promise<MutableRef | undefined> {
    let held = false;
    for (const record of this.#refs.search(cacheDirKey, request.key)) {
      try {
        return await this.#refs.getMutable(record.id);
      } catch (error) {
        if (isLocked(error)) held = true;
        else record.set(cacheDirKey, undefined); // damaged: never offered again, a new one is made
      }
    }
    if (held && wait) return undefined;
    return this.#refs.newMutable(request.base, {
      type: 'exec.cachemount',
      description: request.description,
      retain: true,
      metadata: { [cacheDirKey]: request.key },
    });
  }

  async #inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    const settled = mine.catch(() => {});
    this.#turns.set(key, settled);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(key) === settled) this.#turns.delete(key);
    }
  }
}

/**
 * The cache mounts of one step. Two of the same directory share it, whatever their sharing mode: a step that
 * waited for itself would wait for ever.
 */
export class StepCacheMounts {
  readonly #mounts: Pick<CacheMounts, 'open'>;
  readonly #open = new Map<string, { readonly dir: CacheDir; users: number }>();

  constructor(mounts: Pick<CacheMounts, 'open'>) {
    this.#mounts = mounts;
  }

  /** Call it for one mount after the other. */
  async open(...request: Parameters<CacheMounts['open']>): Promise<CacheDir> {
    const [llb, base] = request;
    const key = directoryKey(llb.cacheOpt?.ID ?? '', base);
    let held = this.#open.get(key);
    if (!held) {
      held = { dir: await this.#mounts.open(...request), users: 0 };
      this.#open.set(key, held);
    }
    const { dir } = held;
    const mine = held;
    mine.users++;
    return {
      mount: (readonly) => dir.mount(readonly),
      release: async () => {
        if (--mine.users > 0) return;
        this.#open.delete(key);
        await dir.release();
      },
    };
  }
}

function directoryKey(id: string, base: ImmutableRef | undefined): string {
  return base ? `${id}:${base.id}` : id;
}

interface Request {
  readonly key: string;
  readonly base: ImmutableRef | undefined;
  readonly description: string;
  readonly signal: AbortSignal;
}

function ownDir(ref: MutableRef): CacheDir {
  // A step may mount its directory at two places.
  return { mount: (readonly) => ref.mount(readonly, { shared: true }), release: () => ref.release() };
}

function isLocked(error: unknown): boolean {
  return error instanceof BuildError && (error as Partial<LockedError>).locked === true;
}
