import { statfsSync } from 'node:fs';
import { SystemError } from './errno.ts';
import { cfunc, check, lastErrno } from './ffi.ts';

/** What lstat tells, without bigints: times are whole seconds plus nanoseconds. */
export interface FileStat {
  /** Type and permission bits, as `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes. */
  readonly size: number;
  /** 512-byte blocks. */
  readonly blocks: number;
  readonly nlink: number;
  readonly inoHigh: number;
  readonly inoLow: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Of a device node. */
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
  /** Something is mounted here. */
  readonly isMountPoint: boolean;
}

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;

export const isDirMode = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
export const isRegularMode = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
export const isSymlinkMode = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;

/** Names an inode, for finding hard links. */
export function inodeKey(stat: FileStat): string {
  return `${stat.devMajor}:${stat.devMinor}:${stat.inoHigh}:${stat.inoLow}`;
}

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
const STATX_ATTR_MOUNT_ROOT = 0x2000;

const statx = cfunc<[number, string, number, number, Uint8Array]>('statx', 'int', [
  'int',
  'const char *',
  'int',
  'uint',
  'void *',
]);
const buffer = new Uint8Array(256);
const view = new DataView(buffer.buffer);
const LE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** lstat. @throws SystemError */
export function lstat(path: string): FileStat {
  return statAt(AT_FDCWD, path);
}

/** lstat, or undefined when there is nothing (ENOENT, ENOTDIR). */
export function lstatOrNone(path: string): FileStat | undefined {
  return statAtOrNone(AT_FDCWD, path);
}

/** stat of an open file. */
export function fstat(fd: number): FileStat {
  check(statx(fd, '', AT_EMPTY_PATH, STATX_BASIC_STATS, buffer), 'fstat');
  return decode();
}

/** lstat of `name` in the directory `dirfd`. `shown` stands in errors for the name. */
export function statAt(dirfd: number, name: string, shown = name): FileStat {
  check(statx(dirfd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, buffer), 'lstat', shown);
  return decode();
}

export function statAtOrNone(dirfd: number, name: string, shown = name): FileStat | undefined {
  if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, buffer) >= 0) return decode();
  const number = lastErrno();
  if (number === 2 || number === 20) return undefined;
  throw new SystemError(number, 'lstat', shown);
}

function decode(): FileStat {
  return {
    nlink: view.getUint32(16, LE),
    uid: view.getUint32(20, LE),
    gid: view.getUint32(24, LE),
    mode: view.getUint16(28, LE),
    inoLow: view.getUint32(LE ? 32 : 36, LE),
    inoHigh: view.getUint32(LE ? 36 : 32, LE),
    size: u64(40),
    blocks: u64(48),
    atimeSec: s64(64),
    atimeNsec: view.getUint32(72, LE),
    ctimeSec: s64(96),
    ctimeNsec: view.getUint32(104, LE),
    mtimeSec: s64(112),
    mtimeNsec: view.getUint32(120, LE),
    rdevMajor: view.getUint32(128, LE),
    rdevMinor: view.getUint32(132, LE),
    devMajor: view.getUint32(136, LE),
    devMinor: view.getUint32(140, LE),
    isMountPoint: (view.getUint32(LE ? 8 : 12, LE) & STATX_ATTR_MOUNT_ROOT) !== 0,
  };
}

function u64(at: number): number {
  return view.getUint32(LE ? at + 4 : at, LE) * 0x1_0000_0000 + view.getUint32(LE ? at : at + 4, LE);
}

function s64(at: number): number {
  return view.getInt32(LE ? at + 4 : at, LE) * 0x1_0000_0000 + view.getUint32(LE ? at : at + 4, LE);
}

/** The kernel's packing of a device number (`dev_t` of glibc), as mknod takes it. */
export function makedev(major: number, minor: number): number {
  const low = ((major & 0xfff) << 8) | (minor & 0xff);
  const high = (minor & ~0xff) * 0x1000;
  return (low >>> 0) + high + (major & ~0xfff) * 0x1_0000_0000;
}

export interface FileSystemSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** What unprivileged users may still use. */
  readonly availableBytes: number;
  /** What files take is a multiple of this. */
  readonly blockBytes: number;
}

/** Size and free space of the file system that holds `path`. */
export function fileSystemSpace(path: string): FileSystemSpace {
  const { bsize, blocks, bfree, bavail } = statfsSync(path);
  return {
    totalBytes: bsize * blocks,
    freeBytes: bsize * bfree,
    availableBytes: bsize * bavail,
    blockBytes: bsize,
  };
}

/** `ext4`, `overlay`, … of the file system that holds `path`, or `0x…` of its magic number. */
export function fileSystemType(path: string): string {
  const magic = Number(statfsSync(path).type) >>> 0;
  return MAGIC[magic] ?? `0x${magic.toString(16)}`;
}

const MAGIC: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  2035054128: 'overlay',
  16914836: 'tmpfs',
  801189825: 'zfs',
  26985: 'nfs',
  1702057286: 'fuse',
  2240043254: 'ramfs',
  1936814952: 'squashfs',
  4076150800: 'f2fs',
};
