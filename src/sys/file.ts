import { cfunc, check, lastErrno } from './ffi.ts';
import { SystemError } from './errno.ts';
import { makedev } from './stat.ts';
import { readSync, writeSync } from 'node:fs';

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;

const mknodCall = cfunc<[string, number, number]>('mknod', 'int', ['const char *', 'uint', 'uint64_t']);
const lchownCall = cfunc<[string, number, number]>('lchown', 'int', ['const char *', 'uint', 'uint']);
const utimensCall = cfunc<[number, string, Uint8Array, number]>('utimensat', 'int', [
  'int',
  'const char *',
  'void *',
  'int',
]);
const futimensCall = cfunc<[number, Uint8Array]>('futimens', 'int', ['int', 'void *']);
const flockCall = cfunc<[number, number]>('flock', 'int', ['int', 'int']);
const copyRangeCall = cfunc<[number, null, number, null, number, number]>('copy_file_range', 'int64_t', [
  'int',
  'void *',
  'int',
  'void *',
  'size_t',
  'uint',
]);
const ioctlFdCall = cfunc<[number, number, number]>('ioctl', 'int', ['int', 'ulong', 'int']);

/** A moment as the file system keeps it. */
export interface FileTime {
  readonly sec: number;
  readonly nsec: number;
}

/** Makes a device node, FIFO, socket or empty file; `mode` holds type and permissions, the umask applies. */
export function mknod(path: string, mode: number, major = 0, minor = 0): void {
  check(mknodCall(path, mode, makedev(major, minor)), 'mknod', path);
}

/** Ids up to 2^32-2; symlinks are not followed. */
export function lchown(path: string, uid: number, gid: number): void {
  check(lchownCall(path, uid, gid), 'lchown', path);
}

const times = new Uint8Array(32);
const timesView = new DataView(times.buffer);
const LE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const UTIME_OMIT = 0x3ffffffe;

function packTimes(atime: FileTime | undefined, mtime: FileTime | undefined): Uint8Array {
  packTime(0, atime);
  packTime(16, mtime);
  return times;
}

function packTime(at: number, time: FileTime | undefined): void {
  const sec = time?.sec ?? 0;
  timesView.setUint32(LE ? at : at + 4, sec >>> 0, LE);
  timesView.setInt32(LE ? at + 4 : at, Math.floor(sec / 0x1_0000_0000), LE);
  timesView.setUint32(LE ? at + 8 : at + 12, time ? time.nsec : UTIME_OMIT, LE);
  timesView.setUint32(LE ? at + 12 : at + 8, 0, LE);
}

/** Sets times to the nanosecond without following a symlink; an undefined one stays as it is. */
export function lutimes(path: string, atime: FileTime | undefined, mtime: FileTime | undefined): void {
  utimesAt(AT_FDCWD, path, atime, mtime, path);
}

/** The same for `name` in the directory `dirfd`. */
export function utimesAt(
  dirfd: number,
  name: string,
  atime: FileTime | undefined,
  mtime: FileTime | undefined,
  shown = name,
): void {
  check(utimensCall(dirfd, name, packTimes(atime, mtime), AT_SYMLINK_NOFOLLOW), 'utimensat', shown);
}

/** The same for an open file. */
export function futimes(fd: number, atime: FileTime | undefined, mtime: FileTime | undefined): void {
  check(futimensCall(fd, packTimes(atime, mtime)), 'futimens');
}

/** Takes a lock without waiting. False when another open file holds it. Ends with the last close. */
export function tryFlock(fd: number, mode: 'exclusive' | 'shared' | 'unlock'): boolean {
  const operation = { exclusive: 2, shared: 1, unlock: 8 }[mode] | 4;
  for (;;) {
    if (flockCall(fd, operation) === 0) return true;
    const number = lastErrno();
    if (number === 11) return false;
    if (number !== 4) throw new SystemError(number, 'flock');
  }
}

const FICLONE = 0x40049409;
const COPY_STEP_BYTES = 1 << 30;
const BUFFER_BYTES = 256 * 1024;
/** Errors that mean "not here", after which plain reads and writes do the work. */
const NO_COPY_RANGE: ReadonlySet<number> = new Set([1, 18, 22, 38, 95]);

/** What the file systems of two trees can do for copies between them, as far as it has been tried. */
export interface CopyWays {
  clone: boolean;
  range: boolean;
}

export interface CopyOptions {
  /** Runs between pieces and may throw to stop. */
  readonly onChunk?: (() => void) | undefined;
  /** Kept from file to file: what failed once is not tried again. */
  readonly ways?: CopyWays;
  /** Bytes of a file that nobody changes: saves looking for more. */
  readonly size?: number;
}

let copyBuffer: Buffer | undefined;

/**
 * Copies what follows in `from` to `to`, both at their start: shared extents where the file system can,
 * else inside the kernel, else by reading and writing. Synchronous: large files belong in a worker.
 */
export function copyFileData(from: number, to: number, options: CopyOptions = {}): void {
  const { onChunk, ways = { clone: true, range: true } } = options;
  if (ways.clone && ioctlFdCall(to, FICLONE, from) === 0) return;
  ways.clone = false;
  let total = 0;
  while (ways.range) {
    onChunk?.();
    const copied = copyRangeCall(from, null, to, null, onChunk ? 1 << 26 : COPY_STEP_BYTES, 0);
    if (copied > 0) {
      total += copied;
      continue;
    }
    if (copied === 0) break;
    const number = lastErrno();
    if (number === 4) continue;
    if (!NO_COPY_RANGE.has(number) || total > 0) throw new SystemError(number, 'copy_file_range');
    ways.range = false;
  }
  if (total === 0) copyByHand(from, to, options);
}

/** Also reached at a zero count: files of /proc and /sys look empty to the kernel's copy. */
function copyByHand(from: number, to: number, { onChunk, size }: CopyOptions): void {
  copyBuffer ??= Buffer.allocUnsafeSlow(BUFFER_BYTES);
  for (let total = 0; size === undefined || total < size; ) {
    onChunk?.();
    const length = readSync(from, copyBuffer, 0, BUFFER_BYTES, null);
    if (length === 0) return;
    for (let at = 0; at < length; ) at += writeSync(to, copyBuffer, at, length - at, null);
    total += length;
  }
}
