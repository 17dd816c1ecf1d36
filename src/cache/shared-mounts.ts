import type { Mount } from '../oci/mount.ts';
import type { LocalMounter, MountedTree } from '../store/local-mounter.ts';
import type { RefMounts } from './ref.ts';

interface Entry {
  readonly tree: MountedTree;
  users: number;
}

/**
 * Writable overlays for several users at a time: mounting one upper directory twice is undefined, so it is mounted
 * once and everybody gets a bind mount of that.
 */
export class SharedMounts {
  readonly #mounter: LocalMounter;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Map<string, Promise<void>>();

  constructor(mounter: LocalMounter) {
    this.#mounter = mounter;
  }

  async take(key: string, mounts: readonly Mount[], readonly: boolean): Promise<RefMounts> {
    while (this.#closing.has(key)) await this.#closing.get(key);
    let entry = this.#entries.get(key);
    if (!entry) {
      entry = { tree: this.#mounter.mount(mounts, { enforce: true }), users: 0 };
      this.#entries.set(key, entry);
    }
    const taken = entry;
    taken.users++;
    let held = true;
    const release = async (): Promise<void> => {
      if (!held) return;
      held = false;
      if (--taken.users > 0) return;
      this.#entries.delete(key);
      const closing = this.#close(key, taken.tree);
      this.#closing.set(key, closing);
      await closing;
    };
    const bind: Mount = { type: 'bind', source: taken.tree.path, options: [readonly ? 'ro' : 'rw', 'rbind'] };
    return { mounts: [bind], release, [Symbol.asyncDispose]: release };
  }

  async #close(key: string, tree: MountedTree): Promise<void> {
    try {
      await tree[Symbol.asyncDispose]();
    } finally {
      this.#closing.delete(key);
    }
  }
}
