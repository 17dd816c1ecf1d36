import { mkdirSync, mkdtempSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Mount } from '../oci/mount.ts';
import { MNT_DETACH, mountAll, umount, umountAsync } from '../sys/mount.ts';

/** A tree that can be reached at `path` until disposal. */
export interface MountedTree extends AsyncDisposable {
  readonly path: string;
}

export interface LocalMountOptions {
  /** Mount even what is a plain directory, so that read-only is enforced. Default false: use it where it is. */
  readonly enforce?: boolean;
}

/** Makes mounts reachable for this process, below one directory that belongs to it. */
export class LocalMounter {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(dir)) removeIdle(join(dir, name));
  }

  mount(mounts: readonly Mount[], options: LocalMountOptions = {}): MountedTree {
    const [only] = mounts;
    if (!options.enforce && mounts.length === 1 && only && isBind(only))
      return { path: only.source, [Symbol.asyncDispose]: async () => {} };
    const path = mkdtempSync(join(this.#dir, 'm'));
    try {
      mountAll(mounts, path);
    } catch (error) {
      rmdirSync(path);
      throw error;
    }
    return { path, [Symbol.asyncDispose]: () => unmount(path, mounts.length) };
  }
}

/** Mount points that a dead daemon left empty; one in use stays. */
function removeIdle(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Busy, or not ours: harmless.
  }
}

function isBind(mount: Mount): boolean {
  return mount.type === 'bind' || mount.options.includes('rbind') || mount.options.includes('bind');
}

async function unmount(path: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    try {
      await umountAsync(path);
    } catch {
      // Still in use by somebody who is about to let go: it disappears with the last user.
      umount(path, MNT_DETACH);
    }
  }
  rmdirSync(path);
}

/**
 * The read-only form of a snapshot's mounts: a writable overlay becomes one of lower directories only, with the
 * former upper one on top.
 */
export function readonlyMounts(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => {
    if (mount.type !== 'overlay')
      return { ...mount, options: [...mount.options.filter((o) => o !== 'rw' && o !== 'ro'), 'ro'] };
    const upper = mount.options.find((o) => o.startsWith('upperdir='))?.slice('upperdir='.length);
    if (upper === undefined) return mount;
    const options = mount.options.filter((o) => !o.startsWith('upperdir=') && !o.startsWith('workdir='));
    return {
      ...mount,
      options: options.map((o) =>
        o.startsWith('lowerdir=') ? `lowerdir=${upper}:${o.slice('lowerdir='.length)}` : o,
      ),
    };
  });
}
