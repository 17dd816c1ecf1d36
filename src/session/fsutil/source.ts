import { closeSync, constants, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { BuildError, Code, errno } from '../../base/errors.ts';
import { type TreeFilter, walkTree } from '../../match/walk.ts';
import { walkWithin } from '../../match/walk-within.ts';
import { inodeKey, isDirMode, isSymlinkMode, lstatOrNone } from '../../sys/stat.ts';
import { readXattrs } from '../../sys/xattr.ts';
import { readlinkSync } from 'node:fs';
import { placeToCut } from './cut.ts';
import { type FsStat, GO_SOCKET, goMode, hasData, modTimeOf } from './stat.ts';

/** A tree that can be sent. */
export interface TreeSource {
  /** Entries in wire order: parents before children, each directory's names by their bytes. */
  entries(): Iterable<FsStat> | AsyncIterable<FsStat>;
  /** Content of one file, in chunks that belong to the taker. A file that is gone is empty. */
  read(path: string): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /**
   * The same tree in parts that a receiver may make side by side, in order. Of its directories a part has those above
   * its first entry, which is a file, once more; no hard link leads from one to another. undefined: not worth it.
   */
  parts?(signal: AbortSignal): Promise<readonly TreeSource[] | undefined>;
}

export interface DirectorySourceOptions extends TreeFilter {
  /** Changes an entry before it is sent; false leaves it out. */
  readonly map?: (stat: FsStat) => boolean;
  /** Rules of who offers the folder: what they leave out is not there for anybody. */
  readonly within?: LocalRules;
}

/** What is offered of a folder. */
export interface LocalRules extends TreeFilter {
  /** May change mode and time of an entry; false leaves it out, a directory with all that is in it. */
  readonly change?: (stat: FsStat) => boolean;
}

/** Files up to this size are read in one go. */
const SMALL_FILE_BYTES = 128 << 10;
const READ_BYTES = 256 << 10;
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Attributes of another system's files that mean nothing to a build. */
const SKIPPED_XATTRS = 'com.apple.';

/** Part of a tree, by the paths of entries. */
interface Range {
  /** The first, with the directories above it. */
  readonly from?: string;
  /** That after the last. */
  readonly until?: string;
}

/** A directory of this machine, filtered. Hard links are told within what is sent. */
export function directorySource(root: string, options: DirectorySourceOptions = {}): TreeSource {
  return rangeSource(root, options, {});
}

/** All of a directory; `map` may leave nothing out. */
export function divisibleSource(root: string, map: (stat: FsStat) => void): TreeSource {
  const options = {
    map: (stat: FsStat): boolean => {
      map(stat);
      return true;
    },
  };
  return {
    ...rangeSource(root, options, {}),
    parts: async (signal) => {
      const cut = await placeToCut(root, signal);
      if (cut === undefined) return undefined;
      return [rangeSource(root, options, { until: cut }), rangeSource(root, options, { from: cut })];
    },
  };
}

function rangeSource(root: string, options: DirectorySourceOptions, range: Range): TreeSource {
  const sizes = new Map<string, number>();
  return {
    entries: () => directoryEntries(root, options, range, sizes),
    read: (path) => {
      const size = sizes.get(path) ?? 0;
      sizes.delete(path);
      return size <= SMALL_FILE_BYTES ? readSmall(`${root}/${path}`, size) : readLarge(`${root}/${path}`);
    },
  };
}

function* directoryEntries(
  root: string,
  options: DirectorySourceOptions,
  { from, until }: Range,
  sizes: Map<string, number>,
): Generator<FsStat> {
  const links = new Map<string, string>();
  const { within, map } = options;
  let dropped: string | undefined;
  for (const entry of within ? walkWithin(root, within, options) : walkTree(root, options, from)) {
    if (entry.path === until) return;
    if (dropped !== undefined && entry.path.startsWith(dropped)) continue;
    const stat = statEntry(entry.path, entry.fullPath, links);
    if (!stat) continue;
    if (within?.change && !within.change(stat)) {
      dropped = `${entry.path}/`;
      // Another name of the file is its first one then.
      for (const [key, path] of links) if (path === entry.path) links.delete(key);
      continue;
    }
    if (map && !map(stat)) continue;
    if (hasData(stat.mode)) sizes.set(entry.path, stat.size);
    yield stat;
  }
}

/** undefined when the file has gone meanwhile. `links` gives the first path of each inode. */
function statEntry(path: string, fullPath: string, links: Map<string, string>): FsStat | undefined {
  const info = lstatOrNone(fullPath);
  if (!info) return undefined;
  const dir = isDirMode(info.mode);
  const stat: FsStat = {
    path,
    // A socket has no form of its own on the wire: it arrives as an empty file.
    mode: (goMode(info.mode) & ~GO_SOCKET) >>> 0,
    uid: info.uid,
    gid: info.gid,
    size: dir ? 0 : info.size,
    modTime: modTimeOf(info),
    linkname: '',
    devmajor: dir ? 0 : info.rdevMajor,
    devminor: dir ? 0 : info.rdevMinor,
    xattrs: wantedXattrs(fullPath),
  };
  if (isSymlinkMode(info.mode)) {
    stat.linkname = readlinkSync(fullPath);
  } else if (!dir && info.nlink > 1) {
    const key = inodeKey(info);
    const first = links.get(key);
    if (first === undefined) links.set(key, path);
    else {
      stat.linkname = first;
      stat.size = 0;
    }
  }
  return stat;
}

function wantedXattrs(path: string): Record<string, Uint8Array> | undefined {
  const all = readXattrs(path);
  if (!all) return undefined;
  const kept = Object.entries(all).filter(([name]) => !name.startsWith(SKIPPED_XATTRS));
  return kept.length > 0 ? Object.fromEntries(kept) : undefined;
}

/** Gone is empty, anything else that keeps a file from being read is the user's to know. */
function unreadable(error: unknown, path: string): void {
  const code = errno(error);
  if (code === 'ENOENT' || code === 'ENXIO' || code === 'ELOOP' || code === 'ENOTDIR') return;
  const text = code === 'EACCES' || code === 'EPERM' ? 'permission denied' : (error as Error).message;
  throw new BuildError(`open ${path}: ${text}`, {
    code: code === 'EACCES' || code === 'EPERM' ? Code.permissionDenied : Code.unknown,
    cause: error,
  });
}

function* readSmall(path: string, size: number): Generator<Uint8Array> {
  let fd: number;
  try {
    fd = openSync(path, OPEN_FLAGS);
  } catch (error) {
    unreadable(error, path);
    return;
  }
  try {
    // One byte more than expected, so that the end is seen with the first read.
    for (;;) {
      const buffer = Buffer.allocUnsafe(size + 1);
      const got = readSync(fd, buffer, 0, buffer.length, null);
      if (got > 0) yield buffer.subarray(0, got);
      if (got < buffer.length) return;
    }
  } finally {
    closeSync(fd);
  }
}

async function* readLarge(path: string): AsyncGenerator<Uint8Array> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, OPEN_FLAGS);
  } catch (error) {
    unreadable(error, path);
    return;
  }
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** Several sources as one tree, each in a directory of its own below the top; names must be single path parts. */
export function subdirectories(
  dirs: readonly { readonly stat: FsStat; readonly source: TreeSource }[],
): TreeSource {
  const sorted = dirs.toSorted((a, b) => Buffer.compare(Buffer.from(a.stat.path), Buffer.from(b.stat.path)));
  const byName = new Map(sorted.map((d) => [d.stat.path, d.source]));
  return {
    async *entries() {
      for (const { stat, source } of sorted) {
        yield stat;
        for await (const entry of source.entries()) {
          const linked = entry.linkname !== '' && hasData(entry.mode);
          const linkname = linked ? `${stat.path}/${entry.linkname}` : entry.linkname;
          yield { ...entry, path: `${stat.path}/${entry.path}`, linkname };
        }
      }
    },
    read: (path) => {
      const slash = path.indexOf('/');
      return byName.get(path.slice(0, slash))?.read(path.slice(slash + 1)) ?? [];
    },
  };
}
