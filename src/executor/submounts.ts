import { closeSync, mkdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { BuildError, errno } from '../base/errors.ts';
import type { Mount } from '../oci/mount.ts';
import { detachAll, mountAll } from '../sys/mount.ts';
import { O_PATH } from '../sys/rootdirs.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { isDirMode, fstat } from '../sys/stat.ts';
import { SystemError } from '../sys/errno.ts';
import { mountDestination, type SpecMount } from './spec.ts';
import type { ContainerMount } from './types.ts';

/** Room for overlay options in what a runtime can mount, less what it adds itself. */
const MAX_OVERLAY_BYTES = 4096 - 512;

/**
 * Turns a container's mounts into entries of its spec. What a runtime cannot express itself (a part of a
 * tree, an overlay of many layers) is mounted below `dir` and bound from there. `release` undoes it all.
 */
export class MountPlan {
  readonly entries: SpecMount[] = [];
  readonly #dir: string;
  readonly #mounted: string[] = [];
  readonly #releases: (() => Promise<void>)[] = [];
  #count = 0;

  /** @param dir made when needed */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** @throws BuildError, with everything added before still held */
  async add(mount: ContainerMount): Promise<void> {
    const view = await mount.source.mount(mount.readonly).catch((error: unknown) => {
      throw BuildError.wrap(error, `failed to mount ${mount.dest}`);
    });
    this.#releases.push(() => view.release());
    for (const one of view.mounts) {
      const { type, source, options } = this.#reachable(one, mount);
      this.entries.push({ destination: mountDestination(mount.dest), type, source, options });
    }
  }

  #reachable(one: Mount, mount: ContainerMount): Mount {
    if (posix.join('/', mount.selector) !== '/') return this.#part(one, mount);
    const size = one.options.reduce((sum, option) => sum + option.length + 1, 0);
    if (one.type !== 'overlay' || size < MAX_OVERLAY_BYTES) return one;
    const at = this.#mountAt([one], 'dir');
    return bind(at, mount.readonly);
  }

  #part(one: Mount, mount: ContainerMount): Mount {
    const readonly = one.options.includes('ro');
    const source = isBind(one) ? one.source : this.#mountAt([one], 'dir');
    using root = openRootfs(source);
    const fd = openSelected(root, mount.selector);
    try {
      const kind = isDirMode(fstat(fd).mode) ? 'dir' : 'file';
      const options = readonly ? ['rbind', 'ro'] : ['rbind'];
      const view = this.#mountAt([{ type: 'bind', source: `/proc/thread-self/fd/${fd}`, options }], kind);
      return bind(view, readonly);
    } finally {
      closeSync(fd);
    }
  }

  #mountAt(mounts: readonly Mount[], kind: 'dir' | 'file'): string {
    const at = join(this.#dir, String(this.#count++));
    mkdirSync(kind === 'dir' ? at : this.#dir, { recursive: true, mode: 0o711 });
    if (kind === 'file') writeFileSync(at, '');
    mountAll(mounts, at);
    this.#mounted.push(at);
    return at;
  }

  #removePlaces(): void {
    for (let i = 0; i < this.#count; i++) removePlace(join(this.#dir, String(i)));
    if (this.#count > 0) removePlace(this.#dir);
  }

  /** Once the container is gone. Every part is tried; the first failure is thrown. */
  async release(): Promise<void> {
    const failures: unknown[] = [];
    for (const at of this.#mounted.reverse()) {
      try {
        detachAll(at);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 0) this.#removePlaces();
    for (const release of this.#releases.reverse()) await release().catch((error) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  }
}

/** Removes an empty directory or file; nothing there is no error. Never descends: what is mounted there is safe. */
export function removePlace(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (errno(error) === 'ENOTDIR') unlinkSync(path);
    else if (errno(error) !== 'ENOENT') throw error;
  }
}

function isBind(mount: Mount): boolean {
  return mount.type === 'bind' || mount.options.includes('bind') || mount.options.includes('rbind');
}

function bind(source: string, readonly: boolean): Mount {
  return { type: 'bind', source, options: readonly ? ['rbind', 'ro'] : ['rbind'] };
}

function openSelected(root: Rootfs, selector: string): number {
  try {
    return root.open(selector, O_PATH);
  } catch (error) {
    const code = errno(error);
    if (code === 'EAGAIN') throw new BuildError(`unable to safely resolve subpath ${selector}`);
    if (error instanceof SystemError)
      throw new BuildError(new SystemError(error.code, 'open', selector).message, { cause: error });
    throw error;
  }
}
