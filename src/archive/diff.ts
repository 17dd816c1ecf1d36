import { createHash } from 'node:crypto';
import { closeSync, constants, fsyncSync, openSync, readlinkSync, unlinkSync, writeSync } from 'node:fs';
import type { Digest } from '../base/digest.ts';
import type { JobContext } from '../pool/types.ts';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from '../sys/stat.ts';
import { type FileStat, inodeKey, isDirMode, isRegularMode, lstat } from '../sys/stat.ts';
import { lgetxattr } from '../sys/xattr.ts';
import { type Change, overlayChanges, treeChanges } from './changes.ts';
import { checkLevel, createCompressor, type PackCompression } from './compression.ts';
import { EstargzCompressor } from './estargz.ts';
import { type TarHeader, TarType } from './tar-header.ts';
import { TarStream } from './tar-writer.ts';
import { CAPABILITY } from './view.ts';

export interface DiffLayerInput {
  /** Directory of the layer: the upper directory of an overlay, or the whole newer tree; none is an empty tree. */
  readonly upper: string | undefined;
  /** Directories below, top first; of a plain tree at most one, the older tree. */
  readonly lowers: readonly string[];
  readonly overlay: boolean;
  readonly compression: PackCompression;
  readonly level?: number;
  /** File to make. It must not exist; it is removed again on failure. */
  readonly blob: string;
}

export interface BlobResult {
  readonly digest: Digest;
  /** Of all that the blob unpacks to: the archive and, of estargz, the table of contents. */
  readonly diffId: Digest;
  /** Of the archive alone. */
  readonly archiveDigest: Digest;
  /** Bytes of the blob file. */
  readonly size: number;
  /** Bytes that the blob unpacks to. */
  readonly archiveSize: number;
  /** Of the table of contents, which estargz has. */
  readonly tocDigest?: Digest;
}

/** Packs the differences of a layer into a blob file (FEATURES F5). The file is synced. */
export function diffLayer(input: DiffLayerInput, context: JobContext): Promise<BlobResult> {
  const { upper, lowers, overlay } = input;
  const changes =
    overlay && upper !== undefined ? overlayChanges(lowers, upper) : treeChanges(lowers[0], upper);
  // Of an empty tree there are no directories on the way.
  return writeBlob(changeArchive(changes, upper ?? ''), input, context);
}

/** Compresses an archive into the file `blob` while both digests are taken. */
export async function writeBlob(
  archive: Iterable<Buffer> | AsyncIterable<Buffer>,
  target: { readonly compression: PackCompression; readonly level?: number; readonly blob: string },
  context: JobContext,
): Promise<BlobResult> {
  checkLevel(target.compression, target.level);
  const fd = openSync(target.blob, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o644);
  let failed = true;
  try {
    const result = await fillBlob(archive, target, fd, context);
    fsyncSync(fd);
    failed = false;
    return result;
  } finally {
    closeSync(fd);
    if (failed) unlinkSync(target.blob);
  }
}

async function fillBlob(
  archive: Iterable<Buffer> | AsyncIterable<Buffer>,
  target: { readonly compression: PackCompression; readonly level?: number },
  fd: number,
  context: JobContext,
): Promise<BlobResult> {
  const plain = createHash('sha256');
  const packed = target.compression === 'uncompressed' ? undefined : createHash('sha256');
  let archiveSize = 0;
  let size = 0;
  const write = (bytes: Uint8Array): void => {
    packed?.update(bytes);
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, null);
    size += bytes.length;
  };
  const count = (bytes: Uint8Array): void => {
    plain.update(bytes);
    archiveSize += bytes.length;
  };
  const { compression, level } = target;
  const compressor =
    compression === 'estargz'
      ? new EstargzCompressor(level, write, count)
      : createCompressor(compression, level, write);
  let archiveDigest: Digest;
  try {
    for await (const chunk of archive) {
      context.throwIfAborted();
      count(chunk);
      await compressor.push(chunk);
    }
    archiveDigest = `sha256:${plain.copy().digest('hex')}` as Digest;
    await compressor.finish();
  } finally {
    compressor.destroy();
  }
  const diffId = `sha256:${plain.digest('hex')}` as Digest;
  const digest = packed ? (`sha256:${packed.digest('hex')}` as Digest) : diffId;
  const tocDigest = compressor instanceof EstargzCompressor ? compressor.tocDigest : undefined;
  return { digest, diffId, archiveDigest, size, archiveSize, ...(tocDigest && { tocDigest }) };
}

/** An archive of changes in OCI's layer form. `upper` is where directories on the way are looked up. */
export function* changeArchive(changes: Iterable<Change>, upper: string): Generator<Buffer, void, void> {
  const writer = new ChangeWriter(upper);
  for (const change of changes) yield* writer.change(change);
  yield* writer.finish();
}

class ChangeWriter {
  readonly #upper: string;
  readonly #stream = new TarStream();
  readonly #dirs = new Set<string>();
  /** Inode to the name it was written under. */
  readonly #linkTargets = new Map<string, string>();
  /** Unmodified names of inodes that were not written yet. */
  readonly #waiting = new Map<string, string[]>();

  constructor(upper: string) {
    this.#upper = upper;
  }

  finish(): Generator<Buffer, void, void> {
    return this.#stream.finish();
  }

  *change(change: Change): Generator<Buffer, void, void> {
    if (change.kind === 'delete') {
      const slash = change.path.lastIndexOf('/') + 1;
      const name = `${change.path.slice(0, slash)}.wh.${change.path.slice(slash)}`;
      yield* this.#parents(name);
      yield* this.#stream.header({ ...EMPTY, name });
    } else
      yield* this.#entry(change.path, change.entry.path, change.entry.stat, change.kind === 'unmodified');
  }

  *#entry(
    path: string,
    fullPath: string,
    stat: FileStat,
    unmodified: boolean,
  ): Generator<Buffer, void, void> {
    let header = layerHeader(path, fullPath, stat);
    if (!header) return;
    let late: readonly string[] = [];
    if (!isDirMode(stat.mode) && stat.nlink > 1) {
      const key = inodeKey(stat);
      const target = this.#linkTargets.get(key);
      const waiting = this.#waiting.get(key);
      if (target !== undefined) header = { ...header, type: TarType.link, linkname: target, size: 0 };
      else if (unmodified) {
        this.#waiting.set(key, [...(waiting ?? []), path]);
        return;
      } else {
        this.#linkTargets.set(key, path);
        this.#waiting.delete(key);
        late = waiting ?? [];
      }
    } else if (unmodified) return;
    const capability = lgetxattr(fullPath, CAPABILITY);
    if (capability?.length) header = { ...header, xattrs: new Map([[CAPABILITY, capability]]) };
    yield* this.#parents(path);
    if (header.type === TarType.dir) this.#dirs.add(path);
    yield* this.#stream.header(header);
    if (header.type === TarType.file && header.size > 0) yield* this.#data(fullPath, header.size);
    for (const name of late) {
      yield* this.#parents(name);
      yield* this.#stream.header({ ...header, name, type: TarType.link, linkname: path, size: 0 });
    }
  }

  *#data(fullPath: string, size: number): Generator<Buffer, void, void> {
    const fd = openSync(fullPath, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      yield* this.#stream.file(fd, size);
    } finally {
      closeSync(fd);
    }
  }

  /** Directories above that are not in the archive yet. */
  *#parents(path: string): Generator<Buffer, void, void> {
    const slash = path.lastIndexOf('/');
    const parent = path.slice(0, Math.max(0, slash));
    if (parent === '' || this.#dirs.has(parent)) return;
    this.#dirs.add(parent);
    const fullPath = `${this.#upper}/${parent}`;
    yield* this.#entry(parent, fullPath, lstat(fullPath), false);
  }
}

const EMPTY: TarHeader = {
  name: '',
  type: TarType.file,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: { sec: 0, nsec: 0 },
  linkname: '',
  devMajor: 0,
  devMinor: 0,
};

const TYPES: Readonly<Record<number, string>> = {
  [S_IFREG]: TarType.file,
  [S_IFDIR]: TarType.dir,
  [S_IFLNK]: TarType.symlink,
  [S_IFCHR]: TarType.char,
  [S_IFBLK]: TarType.block,
  [S_IFIFO]: TarType.fifo,
};

/** Header of a file as layers have it: whole seconds, no user names. undefined for a socket. */
export function layerHeader(path: string, fullPath: string, stat: FileStat): TarHeader | undefined {
  const type = TYPES[stat.mode & S_IFMT];
  if (type === undefined) return undefined;
  const device = type === TarType.char || type === TarType.block;
  return {
    name: type === TarType.dir ? `${path}/` : path,
    type,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    size: isRegularMode(stat.mode) ? stat.size : 0,
    mtime: { sec: stat.mtimeSec, nsec: 0 },
    linkname: type === TarType.symlink ? readlinkSync(fullPath) : '',
    devMajor: device ? stat.rdevMajor : 0,
    devMinor: device ? stat.rdevMinor : 0,
  };
}
