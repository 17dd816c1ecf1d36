import { closeSync, mkdtempSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { BuildError, Code, errno } from '../base/errors.ts';
import type { ImmutableRef, RefMounts } from '../cache/ref.ts';
import { globMatch } from '../match/glob.ts';
import type { Stat } from '../pb/fsutil.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import {
  type FileStat,
  fstat,
  isDirMode,
  isSymlinkMode,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFSOCK,
} from '../sys/stat.ts';

/** Largest answer to one read, bytes: a message must fit the wire's 16 MiB. */
const MAX_READ_BYTES = 15 << 20;

export interface MountedTree {
  readonly path: string;
  release(): Promise<void>;
}

export type MountLocally = (view: Pick<RefMounts, 'mounts' | 'release'>) => Promise<MountedTree>;

/** Runs `work` on the root of a ref; null is the empty tree. */
export async function withTree<T>(
  ref: ImmutableRef | null,
  mountLocally: MountLocally,
  signal: AbortSignal,
  work: (root: Rootfs) => T | Promise<T>,
): Promise<T> {
  return inside(ref ? await mountLocally(await ref.mount(true, { signal })) : emptyTree(), work);
}

/** Runs `work` on the root of a tree, which is given back. */
export async function inside<T>(tree: MountedTree, work: (root: Rootfs) => T | Promise<T>): Promise<T> {
  try {
    using root = openRootfs(tree.path);
    return await work(root);
  } finally {
    await tree.release();
  }
}

function emptyTree(): MountedTree {
  const path = mkdtempSync(join(tmpdir(), 'buildkit-empty-'));
  return { path, release: async () => rmSync(path, { recursive: true, force: true }) };
}

/** Bytes of a regular file. `range` length 0 reads to the end of the offset, as asked. */
export function readFileIn(
  root: Rootfs,
  path: string,
  range: { offset: number; length: number } | undefined,
): Uint8Array {
  const fd = attempt('open', path, () => root.openFile(path));
  try {
    const size = fstat(fd).size;
    const offset = range?.offset ?? 0;
    const length = Math.max(0, Math.min(size - offset, range?.length ?? size));
    if (length > MAX_READ_BYTES) {
      throw new BuildError(`${path} is too large to read at once: ${length} bytes`, {
        code: Code.resourceExhausted,
        hint: 'read it in ranges',
      });
    }
    const data = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const count = readSync(fd, data, done, length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return data.subarray(0, done);
  } finally {
    closeSync(fd);
  }
}

export function statFileIn(root: Rootfs, path: string): Stat {
  return attempt('lstat', path, () => {
    const parent = posix.dirname(posix.join('/', path));
    const name = posix.basename(posix.join('/', path));
    const real = name === '' ? '/' : posix.join(root.resolve(parent), name);
    return statOf(root, real, name);
  });
}

/** Entries of a directory, by name; `include` is a glob on names. */
export function readDirIn(root: Rootfs, path: string, include: string): Stat[] {
  return attempt('open', path, () => {
    const dir = root.resolve(posix.join('/', path));
    return root
      .readdir(dir)
      .sort()
      .filter((name) => include === '' || globMatch(include, name))
      .map((name) => statOf(root, posix.join(dir, name), name));
  });
}

function attempt<T>(action: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const code = errno(error) ?? '';
    if (code === NOT_REGULAR) throw new BuildError(`${path} is not a regular file`, { cause: error });
    const text = TEXTS[code];
    if (text === undefined) throw error;
    throw new BuildError(`${action} ${path}: ${text}`, { cause: error });
  }
}

/** What opening says of anything but a file. */
const NOT_REGULAR = 'EINVAL';
const TEXTS: Record<string, string> = {
  ENOENT: 'no such file or directory',
  ENOTDIR: 'not a directory',
  ELOOP: 'too many levels of symbolic links',
};

function statOf(root: Rootfs, path: string, name: string): Stat {
  const stat = root.lstat(path);
  return {
    path: name,
    mode: goFileMode(stat.mode),
    uid: stat.uid,
    gid: stat.gid,
    size: isDirMode(stat.mode) ? 0n : BigInt(stat.size),
    modTime: modTimeOf(stat),
    linkname: isSymlinkMode(stat.mode) ? root.readlink(path) : '',
    devmajor: BigInt(stat.rdevMajor),
    devminor: BigInt(stat.rdevMinor),
    xattrs: root.readXattrs(path) ?? {},
  };
}

function modTimeOf(stat: FileStat): bigint {
  return BigInt(stat.mtimeSec) * 1_000_000_000n + BigInt(stat.mtimeNsec);
}

/** `st_mode` as Go's os.FileMode (FEATURES C8). */
function goFileMode(mode: number): number {
  let out = mode & 0o777;
  if (mode & 0o4000) out |= 1 << 23;
  if (mode & 0o2000) out |= 1 << 22;
  if (mode & 0o1000) out |= 1 << 20;
  return (out | (GO_TYPES.get(mode & S_IFMT) ?? 0)) >>> 0;
}

const GO_TYPES = new Map([
  [S_IFDIR, 1 << 31],
  [S_IFLNK, 1 << 27],
  [S_IFIFO, 1 << 25],
  [S_IFSOCK, 1 << 24],
  [S_IFBLK, 1 << 26],
  [S_IFCHR, (1 << 26) | (1 << 21)],
]);
