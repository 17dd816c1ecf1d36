import type { Logger } from '../base/log.ts';
import { fileSystemSpace } from '../sys/stat.ts';
import { AutoGc } from './auto-gc.ts';
import type { DaemonConfig } from './config.ts';
import { DiskGuard } from './disk-guard.ts';
import { gcPolicies } from './gc-policy.ts';
import type { Worker } from './worker.ts';

export function openGuard(config: DaemonConfig, { refs, store, executor }: Worker, log: Logger): DiskGuard {
  return new DiskGuard({
    root: config.root,
    hardLimit: config.oci.hardLimit,
    space: () => fileSystemSpace(config.root),
    refs,
    measure: async (signal) => (await store.diskUse(signal)).total,
    emptied: async () => {
      await store.gc();
      await store.trashEmptied();
    },
    steps: executor,
    log,
  });
}

export function openGc(config: DaemonConfig, worker: Worker, log: Logger): AutoGc {
  return new AutoGc({
    refs: worker.refs,
    policies: () => gcPolicies(config.oci.gc, diskBytes(config.root)),
    releaseUnreferenced: (signal) => worker.releaseUnreferenced(signal),
    log,
  });
}

/** Size of the disk that holds `path`. */
export function diskBytes(path: string): number {
  return fileSystemSpace(path).totalBytes;
}

/** Runs a build while the disk is watched; garbage is collected when it has ended. */
export async function attended<T>(
  { guard, gc, warm }: { readonly guard: DiskGuard; readonly gc: AutoGc; readonly warm: () => void },
  build: () => Promise<T>,
): Promise<T> {
  warm();
  using _watched = guard.watch();
  try {
    return await build();
  } finally {
    gc.schedule();
  }
}
