import type { Rootfs } from '../../sys/rootfs.ts';
import { inodeKey, isDirMode, isSymlinkMode } from '../../sys/stat.ts';
import { sortNames } from '../../match/paths.ts';
import { emptyStat } from './packet.ts';
import { type FsStat, GO_SOCKET, goMode, isDir, modTimeOf } from './stat.ts';

interface Level {
  readonly prefix: string;
  readonly names: readonly string[];
  next: number;
}

/**
 * Walks what is in a directory, in wire order, while that directory is being changed: a directory is listed
 * when the walk steps into it, which is before anything new is put there.
 */
export class ExistingTree {
  readonly #root: Rootfs;
  readonly #levels: Level[] = [];
  readonly #links = new Map<string, string>();
  #current: FsStat | undefined;

  constructor(root: Rootfs) {
    this.#root = root;
    this.#enter('');
    this.#step();
  }

  /** Entry at which the walk stands; undefined at the end. */
  get current(): FsStat | undefined {
    return this.#current;
  }

  /** To the next entry; with `skipChildren` past everything below the current one. */
  advance(options: { readonly skipChildren: boolean }): void {
    const from = this.#current;
    if (from && isDir(from.mode) && !options.skipChildren) this.#enter(`${from.path}/`);
    this.#step();
  }

  #enter(prefix: string): void {
    const names = sortNames(this.#root.readdir(prefix === '' ? '/' : prefix));
    this.#levels.push({ prefix, names, next: 0 });
  }

  #step(): void {
    this.#current = undefined;
    while (this.#current === undefined) {
      const level = this.#levels.at(-1);
      if (!level) return;
      const name = level.names[level.next++];
      if (name === undefined) this.#levels.pop();
      else this.#current = this.#stat(level.prefix + name);
    }
  }

  #stat(path: string): FsStat | undefined {
    const info = this.#root.lstatOrNone(path);
    if (!info) return undefined;
    const dir = isDirMode(info.mode);
    const stat: FsStat = {
      ...emptyStat(),
      path,
      mode: (goMode(info.mode) & ~GO_SOCKET) >>> 0,
      uid: info.uid,
      gid: info.gid,
      size: dir ? 0 : info.size,
      modTime: modTimeOf(info),
      devmajor: dir ? 0 : info.rdevMajor,
      devminor: dir ? 0 : info.rdevMinor,
    };
    if (isSymlinkMode(info.mode)) stat.linkname = this.#root.readlink(path);
    else if (!dir && info.nlink > 1) {
      const key = inodeKey(info);
      const first = this.#links.get(key);
      if (first === undefined) this.#links.set(key, path);
      else {
        stat.linkname = first;
        stat.size = 0;
      }
    }
    return stat;
  }
}
