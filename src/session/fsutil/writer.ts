import { closeSync, constants, fchmodSync, fchownSync, writeSync } from 'node:fs';
import { type Hash, createHash } from 'node:crypto';
import type { Digest } from '../../base/digest.ts';
import { BuildError } from '../../base/errors.ts';
import { futimes } from '../../sys/file.ts';
import { openRootfs, type Rootfs } from '../../sys/rootfs.ts';
import {
  fileTimeOf,
  type FsStat,
  GO_CHAR_DEVICE,
  GO_DEVICE,
  GO_NAMED_PIPE,
  isDir,
  isSymlink,
  unixPermissions,
} from './stat.ts';

/** Descriptors kept between a file's creation and its data. */
const MAX_OPEN_FILES = 256;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const REOPEN = constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

interface PendingFile {
  readonly stat: FsStat;
  fd: number | undefined;
  hash: Hash | undefined;
}

/**
 * Writes received entries below a directory. Everything is synchronous and plain, one entry or chunk a call.
 * Owner, mode, attributes and times are set when a file is complete: writing would take some of them away.
 */
export class TreeWriter implements Disposable {
  readonly #root: Rootfs;
  readonly #pending = new Map<number, PendingFile>();
  readonly #dirTimes = new Map<string, bigint>();
  readonly #newHash: ((stat: FsStat) => Hash) | undefined;
  #openFiles = 0;
  #temp = 0;

  /** @param newHash makes the running hash of a file's content; without it contents are not hashed. */
  constructor(dest: string, newHash?: (stat: FsStat) => Hash) {
    this.#root = openRootfs(dest);
    this.#newHash = newHash;
  }

  get root(): Rootfs {
    return this.#root;
  }

  /** Files whose data is still missing. */
  get pendingFiles(): number {
    return this.#pending.size;
  }

  /** Makes anything but a regular file with data. Returns the digest of its (empty) content when hashing. */
  create(stat: FsStat): Digest | undefined {
    const { path } = stat;
    const old = this.#root.lstatOrNone(path);
    if (old && isDir(stat.mode) && (old.mode & 0o170000) === 0o040000) {
      this.#setMetadata(path, stat);
    } else {
      const at = old ? this.#tempName(path) : path;
      this.#make(at, stat);
      if (stat.linkname === '' || isSymlink(stat.mode)) this.#setMetadata(at, stat);
      if (old) this.#replace(at, path, isDir(stat.mode));
    }
    if (isDir(stat.mode)) this.#dirTimes.set(path, stat.modTime);
    return this.#newHash && digestOf(this.#newHash(stat));
  }

  /** Makes a regular file whose data will come under `id`. */
  createFile(id: number, stat: FsStat): void {
    const { path } = stat;
    const old = this.#root.lstatOrNone(path);
    const at = old ? this.#tempName(path) : path;
    const fd = this.#root.createFile(at, 0o600);
    const file: PendingFile = { stat, fd, hash: undefined };
    this.#pending.set(id, file);
    this.#openFiles++;
    if (old) this.#replace(at, path, false);
    if (this.#openFiles > MAX_OPEN_FILES) this.#closeFile(file);
  }

  write(id: number, data: Uint8Array): void {
    const file = this.#file(id);
    for (let at = 0; at < data.byteLength; )
      at += writeSync(this.#fd(file), data, at, data.byteLength - at, null);
    if (this.#newHash) {
      file.hash ??= this.#newHash(file.stat);
      file.hash.update(data);
    }
  }

  /** No more data under `id`. */
  finish(id: number): { stat: FsStat; digest: Digest | undefined } {
    const file = this.#file(id);
    const { stat } = file;
    const fd = this.#fd(file);
    fchownSync(fd, stat.uid, stat.gid);
    fchmodSync(fd, unixPermissions(stat.mode));
    this.#setXattrs(stat.path, stat);
    const time = fileTimeOf(stat.modTime);
    futimes(fd, time, time);
    this.#closeFile(file);
    this.#pending.delete(id);
    const hash = file.hash ?? this.#newHash?.(stat);
    return { stat, digest: hash && digestOf(hash) };
  }

  remove(path: string): void {
    this.#root.removeAll(path);
  }

  /** Times of directories, once nothing more is written into them. */
  finishDirectories(): void {
    for (const [path, modTime] of this.#dirTimes) {
      const time = fileTimeOf(modTime);
      this.#root.utimes(path, time, time);
    }
  }

  /** A file of our own at the top, whatever was there before. */
  writeOwnFile(name: string, chunks: readonly Uint8Array[]): void {
    this.#root.removeAll(name);
    const fd = this.#root.createFile(name, 0o644);
    try {
      for (const chunk of chunks) writeSync(fd, chunk);
    } finally {
      closeSync(fd);
    }
  }

  [Symbol.dispose](): void {
    for (const file of this.#pending.values()) this.#closeFile(file);
    this.#root[Symbol.dispose]();
  }

  #file(id: number): PendingFile {
    const file = this.#pending.get(id);
    if (!file) throw new BuildError(`invalid file request ${id}`);
    return file;
  }

  #fd(file: PendingFile): number {
    if (file.fd === undefined) {
      file.fd = this.#root.open(file.stat.path, REOPEN);
      this.#openFiles++;
    }
    return file.fd;
  }

  #closeFile(file: PendingFile): void {
    if (file.fd === undefined) return;
    closeSync(file.fd);
    file.fd = undefined;
    this.#openFiles--;
  }

  #make(path: string, stat: FsStat): void {
    const permissions = unixPermissions(stat.mode);
    if (isDir(stat.mode)) this.#root.mkdir(path, permissions);
    else if (isSymlink(stat.mode)) this.#root.symlink(stat.linkname, path);
    else if (stat.mode & GO_NAMED_PIPE) this.#root.mknod(path, S_IFIFO | permissions);
    else if (stat.mode & GO_DEVICE) {
      const type = stat.mode & GO_CHAR_DEVICE ? S_IFCHR : S_IFBLK;
      this.#root.mknod(path, type | permissions, stat.devmajor, stat.devminor);
    } else if (stat.linkname !== '') this.#root.link(stat.linkname, path);
    else throw new BuildError(`unsupported file type of ${stat.path}`);
  }

  #setMetadata(path: string, stat: FsStat): void {
    this.#root.lchown(path, stat.uid, stat.gid);
    if (!isSymlink(stat.mode)) this.#root.chmod(path, unixPermissions(stat.mode));
    this.#setXattrs(path, stat);
    const time = fileTimeOf(stat.modTime);
    this.#root.utimes(path, time, time);
  }

  #setXattrs(path: string, stat: FsStat): void {
    for (const [name, value] of Object.entries(stat.xattrs ?? {})) {
      // overlayfs would take it for its own when the tree becomes a layer.
      if (name.startsWith('trusted.overlay.')) continue;
      try {
        this.#root.setXattr(path, name, value);
      } catch {
        // Attributes that this file system or user cannot have are lost, as with any copy.
      }
    }
  }

  #tempName(path: string): string {
    const dir = path.slice(0, path.lastIndexOf('/') + 1);
    for (;;) {
      const name = `${dir}.tmp.${process.pid}-${this.#temp++}`;
      if (!this.#root.lstatOrNone(name)) return name;
    }
  }

  #replace(from: string, to: string, isDirectory: boolean): void {
    const old = this.#root.lstatOrNone(to);
    if (old && ((old.mode & 0o170000) === 0o040000) !== isDirectory) this.#root.removeAll(to);
    this.#root.rename(from, to);
  }
}

export function sha256(): Hash {
  return createHash('sha256');
}

function digestOf(hash: Hash): Digest {
  return `sha256:${hash.digest('hex')}` as Digest;
}
