import { createHash, hash } from 'node:crypto';
import { closeSync, constants, openSync, readlinkSync, readSync } from 'node:fs';
import type { Digest } from '../base/digest.ts';
import { type FileStat, isDirMode, isRegularMode, isSymlinkMode, S_IFBLK } from '../sys/stat.ts';
import { S_IFCHR, S_IFIFO, S_IFMT } from '../sys/stat.ts';
import { readXattrs } from '../sys/xattr.ts';

/** What of a file goes into its digest (FEATURES F15). Times and the name do not. */
export interface HashedHeader {
  /** Type and permission bits as `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Of a symlink. */
  readonly linkname: string;
  /** Of a device; a scan of a tree leaves them 0, a transfer sends them. */
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: Readonly<Record<string, Uint8Array>> | undefined;
}

/** Files up to this size are hashed in one call. */
const SMALL_BYTES = 128 * 1024;
const READ_BYTES = 1 << 20;

function typeFlag(mode: number): string {
  if (isDirMode(mode)) return '5';
  if (isSymlinkMode(mode)) return '2';
  switch (mode & S_IFMT) {
    case S_IFCHR:
      return '3';
    case S_IFBLK:
      return '4';
    case S_IFIFO:
      return '6';
    default:
      // Sockets count as files without content.
      return '0';
  }
}

/** The bytes that stand for the header: keys and values of tarsum's version 1, without separators. */
export function headerBytes(header: HashedHeader): Buffer {
  const flag = typeFlag(header.mode);
  const mode = flag === '2' ? 0o777 : header.mode & 0o7777;
  const size = flag === '0' ? header.size : 0;
  const fixed =
    `namemode${mode}uid${header.uid}gid${header.gid}size${size}typeflag${flag}` +
    `linkname${flag === '2' ? header.linkname : ''}unamegname` +
    `devmajor${header.devMajor}devminor${header.devMinor}`;
  const parts: Uint8Array[] = [Buffer.from(fixed)];
  for (const name of hashedXattrs(header.xattrs)) parts.push(Buffer.from(name), header.xattrs![name]!);
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
}

function hashedXattrs(xattrs: HashedHeader['xattrs']): string[] {
  if (!xattrs) return [];
  return Object.keys(xattrs)
    .filter((name) => name === 'security.capability' || !/^(security|system)\./.test(name))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** Digest of the header alone: of anything but a file with content. */
export function headerDigest(header: HashedHeader): Digest {
  return `sha256:${hash('sha256', headerBytes(header))}` as Digest;
}

let scratch: Buffer | undefined;

/** Digest of the file at `path`, which holds no symlink before its last part. */
export function fileDigest(path: string, stat: FileStat): Digest {
  const linkname = isSymlinkMode(stat.mode) ? readlinkSync(path) : '';
  const { mode, uid, gid, size } = stat;
  const xattrs = readXattrs(path);
  const header = headerBytes({ mode, uid, gid, size, linkname, devMajor: 0, devMinor: 0, xattrs });
  if (!isRegularMode(mode) || size === 0) return `sha256:${hash('sha256', header)}` as Digest;
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    return `sha256:${header.length + size <= SMALL_BYTES ? small(header, fd, size) : large(header, fd)}` as Digest;
  } finally {
    closeSync(fd);
  }
}

function small(header: Buffer, fd: number, size: number): string {
  scratch ??= Buffer.allocUnsafeSlow(SMALL_BYTES);
  header.copy(scratch);
  let end = header.length;
  const limit = header.length + size;
  while (end < limit) {
    const length = readSync(fd, scratch, end, limit - end, null);
    if (length === 0) break;
    end += length;
  }
  return hash('sha256', scratch.subarray(0, end));
}

function large(header: Buffer, fd: number): string {
  const running = createHash('sha256').update(header);
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  for (;;) {
    const length = readSync(fd, buffer, 0, READ_BYTES, null);
    if (length === 0) return running.digest('hex');
    running.update(buffer.subarray(0, length));
  }
}
