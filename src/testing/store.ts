import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Logger, silentLogger } from '../base/log.ts';
import type { JobContext, JobRunner, Jobs } from '../pool/types.ts';
import { storeJobs } from '../store/jobs.ts';
import { openStore, type Store } from '../store/store.ts';
import { detachUnder } from '../sys/mount.ts';

/** Runs jobs on the calling thread, one turn later. */
export function inlineJobs<J extends Jobs>(jobs: J): JobRunner<J> {
  return {
    run: async (name, input, options) => {
      await Promise.resolve();
      const context: JobContext = {
        throwIfAborted: () => options?.signal?.throwIfAborted(),
        report: (value) => options?.onProgress?.(value),
      };
      return await jobs[name]!(input, context);
    },
  };
}

/** A directory below the system's temporary one, unmounted and deleted on disposal. */
export function temporaryRoot(): AsyncDisposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'store-'));
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      detachUnder(path);
      await rm(path, { recursive: true, force: true });
    },
  };
}

/** Opens the store below `root` with its jobs on the calling thread. */
export function openTestStore(root: string, snapshotter = 'overlayfs', log: Logger = silentLogger): Store {
  return openStore({ root, snapshotter, jobs: inlineJobs(storeJobs), log });
}

/** A new store with a lease to write under; everything goes on disposal. */
export async function temporaryStore(snapshotter?: string): Promise<
  AsyncDisposable & {
    readonly root: string;
    readonly store: Store;
    readonly lease: string;
    readonly content: Store['content'];
    readonly snapshots: Store['snapshots'];
    readonly leases: Store['leases'];
  }
> {
  const root = temporaryRoot();
  const store = openTestStore(root.path, snapshotter);
  const held = store.leases.hold();
  return {
    root: root.path,
    store,
    lease: held.id,
    content: store.content,
    snapshots: store.snapshots,
    leases: store.leases,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await root[Symbol.asyncDispose]();
    },
  };
}
