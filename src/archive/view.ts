import { closeSync, openSync, readdirSync, readSync, constants, readlinkSync } from 'node:fs';
import { sortNames } from '../match/paths.ts';
import { type FileStat, isDirMode, isSymlinkMode, lstatOrNone, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { lgetxattr } from '../sys/xattr.ts';

/**
 * A file tree made of directories that lie on each other, top first, as overlayfs would show it; one directory is
 * simply itself. The directories are snapshots: at rest, and only reached by names read from them, so that no
 * symlink is followed.
 */
export interface ViewEntry {
  readonly stat: FileStat;
  /** Where the entry itself lies. */
  readonly path: string;
  /** Of a directory: what makes it up, top first. */
  readonly dirs: readonly string[];
}

export interface ViewRules {
  /** Whether marks of overlayfs hide what is below them, and are no entries. */
  readonly overlay: boolean;
}

/** A character device 0:0 hides a name. */
export function isWhiteout(stat: FileStat): boolean {
  return (stat.mode & S_IFMT) === S_IFCHR && stat.rdevMajor === 0 && stat.rdevMinor === 0;
}

/** A directory that hides all of the same name below. */
export function isOpaque(path: string): boolean {
  for (const name of ['trusted.overlay.opaque', 'user.overlay.opaque']) {
    const value = lgetxattr(path, name);
    if (value?.length === 1 && value[0] === 0x79) return true;
  }
  return false;
}

/** The entry `name` in the directory made of `dirs`. */
export function lookUp(dirs: readonly string[], name: string, rules: ViewRules): ViewEntry | undefined {
  let top: { stat: FileStat; path: string } | undefined;
  const below: string[] = [];
  for (const dir of dirs) {
    const path = `${dir}/${name}`;
    const stat = lstatOrNone(path);
    if (!stat) continue;
    if (rules.overlay && isWhiteout(stat)) break;
    const directory = isDirMode(stat.mode);
    if (top && !directory) break;
    top ??= { stat, path };
    if (!directory) break;
    below.push(path);
    if (!rules.overlay || isOpaque(path)) break;
  }
  return top && { ...top, dirs: below };
}

/** Names in the directory made of `dirs`, sorted by bytes; some may be hidden. */
export function listNames(dirs: readonly string[]): string[] {
  if (dirs.length === 1) return sortNames(readNames(dirs[0]!));
  return sortNames([...new Set(dirs.flatMap(readNames))]);
}

function readNames(dir: string): string[] {
  return readdirSync(dir);
}

const OVERLAY: ViewRules = { overlay: true };

/** What of the layers `below` an overlay's `upper` directory shows at `path` while that itself has nothing there. */
export function findBelow(upper: string, below: readonly string[], path: string): ViewEntry | undefined {
  let dirs = below;
  let dir = upper;
  const parts = path.split('/');
  const name = parts.pop()!;
  for (const part of parts) {
    dir = `${dir}/${part}`;
    dirs = dirs.length === 0 || isOpaque(dir) ? [] : (lookUp(dirs, part, OVERLAY)?.dirs ?? []);
  }
  return dirs.length === 0 ? undefined : lookUp(dirs, name, OVERLAY);
}

const COMPARE_BYTES = 64 * 1024;

/**
 * Whether two entries are taken as the same file without a change: type, mode, owner, device, file capabilities, and
 * for files size and time. Two times without fractions may have lost theirs: then the contents decide.
 */
export function sameEntry(a: ViewEntry, b: ViewEntry): boolean {
  const x = a.stat;
  const y = b.stat;
  if (
    x.inoLow === y.inoLow &&
    x.inoHigh === y.inoHigh &&
    x.devMinor === y.devMinor &&
    x.devMajor === y.devMajor
  )
    return true;
  if (x.mode !== y.mode || x.uid !== y.uid || x.gid !== y.gid) return false;
  if (x.rdevMajor !== y.rdevMajor || x.rdevMinor !== y.rdevMinor) return false;
  if (!sameBytes(lgetxattr(a.path, CAPABILITY), lgetxattr(b.path, CAPABILITY))) return false;
  if (isDirMode(x.mode)) return true;
  if (x.size !== y.size || x.mtimeSec !== y.mtimeSec || x.mtimeNsec !== y.mtimeNsec) return false;
  if (x.mtimeNsec !== 0) return true;
  if (isSymlinkMode(x.mode)) return readlinkSync(a.path) === readlinkSync(b.path);
  return x.size === 0 || sameContent(a.path, b.path);
}

export const CAPABILITY = 'security.capability';

function sameBytes(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return (a?.length ?? 0) === (b?.length ?? 0) && (!a || !b || a.equals(b));
}

function sameContent(a: string, b: string): boolean {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const fds: number[] = [];
  try {
    fds.push(openSync(a, flags), openSync(b, flags));
    const x = Buffer.allocUnsafe(COMPARE_BYTES);
    const y = Buffer.allocUnsafe(COMPARE_BYTES);
    for (let at = 0; ; ) {
      const n = readSync(fds[0]!, x, 0, COMPARE_BYTES, at);
      const m = readSync(fds[1]!, y, 0, COMPARE_BYTES, at);
      if (n !== m || x.compare(y, 0, n, 0, n) !== 0) return false;
      if (n === 0) return true;
      at += n;
    }
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
