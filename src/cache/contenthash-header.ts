import { createHash, hash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import type { Digest } from '../base/digest.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import {
  type FileStat,
  isRegularMode,
  isSymlinkMode,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../sys/stat.ts';

/** Files up to this size are read and hashed in one go, bytes. */
const WHOLE_FILE_BYTES = 1 << 20;
const CHUNK_BYTES = 1 << 20;

/** Tar type of each file type; sockets have none of their own. */
const TYPE_FLAGS = new Map([
  [S_IFREG, '0'],
  [S_IFSOCK, '0'],
  [S_IFLNK, '2'],
  [S_IFCHR, '3'],
  [S_IFBLK, '4'],
  [S_IFDIR, '5'],
  [S_IFIFO, '6'],
]);

let chunk: Buffer | undefined;

/**
 * Digest of one entry: what a tar header says of it but for name and times, then a file's content
 * (FEATURES F15).
 */
export function entryDigest(root: Rootfs, path: string, stat: FileStat, throwIfAborted: () => void): Digest {
  const header = headerBytes(root, path, stat);
  if (!isRegularMode(stat.mode) || stat.size === 0) return `sha256:${hash('sha256', header)}` as Digest;
  const fd = root.openFileNoFollow(path);
  try {
    if (stat.size <= WHOLE_FILE_BYTES) return smallFile(fd, header, stat.size);
    const sum = createHash('sha256').update(header);
    chunk ??= Buffer.allocUnsafeSlow(CHUNK_BYTES);
    for (;;) {
      throwIfAborted();
      const length = readSync(fd, chunk, 0, CHUNK_BYTES, null);
      if (length === 0) break;
      sum.update(chunk.subarray(0, length));
    }
    return `sha256:${sum.digest('hex')}` as Digest;
  } finally {
    closeSync(fd);
  }
}

function smallFile(fd: number, header: Buffer, size: number): Digest {
  const data = Buffer.allocUnsafe(header.length + size);
  header.copy(data);
  let at = header.length;
  while (at < data.length) {
    const length = readSync(fd, data, at, data.length - at, null);
    if (length === 0) break;
    at += length;
  }
  return `sha256:${hash('sha256', data.subarray(0, at))}` as Digest;
}

function headerBytes(root: Rootfs, path: string, stat: FileStat): Buffer {
  const link = isSymlinkMode(stat.mode);
  const type = TYPE_FLAGS.get(stat.mode & S_IFMT) ?? '0';
  const mode = link ? (stat.mode & 0o7000) | 0o777 : stat.mode & 0o7777;
  const size = type === '0' ? stat.size : 0;
  const isDevice = type === '3' || type === '4';
  const text = Buffer.from(
    `namemode${mode}uid${stat.uid}gid${stat.gid}size${size}typeflag${type}` +
      `linkname${link ? root.readlink(path) : ''}unamegname` +
      `devmajor${isDevice ? stat.rdevMajor : 0}devminor${isDevice ? stat.rdevMinor : 0}`,
  );
  const attributes = root.listXattr(path).filter(counts).sort(byBytes);
  if (attributes.length === 0) return text;
  const parts: Buffer[] = [text];
  for (const name of attributes) {
    const value = root.getXattr(path, name);
    if (value) parts.push(Buffer.from(name), value);
  }
  return Buffer.concat(parts);
}

function counts(name: string): boolean {
  return name === 'security.capability' || !(name.startsWith('security.') || name.startsWith('system.'));
}

export function byBytes(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}
