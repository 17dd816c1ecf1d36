import { closeSync, constants, openSync } from 'node:fs';
import type { JobContext } from '../pool/types.ts';
import { walkTree, type TreeFilter } from '../match/walk.ts';
import { inodeKey, isDirMode, lstatOrNone } from '../sys/stat.ts';
import { readXattrs } from '../sys/xattr.ts';
import { type PackCompression, readLayer } from './compression.ts';
import { clampTimes } from './clamp.ts';
import { type BlobResult, layerHeader, writeBlob } from './diff.ts';
import { type TarHeader, TarType } from './tar-header.ts';
import { TarStream } from './tar-writer.ts';

export interface PackTreeInput {
  readonly root: string;
  readonly filter?: TreeFilter;
  /** Owner of every entry, instead of its own. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Latest time of an entry, in seconds; later ones become this. */
  readonly maxTimeSec?: number;
  /** Path that every name starts with. */
  readonly prefix?: string;
  readonly compression: PackCompression;
  readonly level?: number;
  /** File to make; must not exist. */
  readonly blob: string;
}

/** Packs a directory tree into an archive file, with all attributes and hard links. */
export function packTree(input: PackTreeInput, context: JobContext): Promise<BlobResult> {
  return writeBlob(treeArchive(input), input, context);
}

/** The archive of a directory tree in pieces. */
export function* treeArchive(
  input: Pick<PackTreeInput, 'root' | 'filter' | 'owner' | 'maxTimeSec' | 'prefix'>,
): Generator<Buffer, void, void> {
  const stream = new TarStream();
  const links = new Map<string, string>();
  for (const { path, fullPath } of walkTree(input.root, input.filter)) {
    const stat = lstatOrNone(fullPath);
    if (!stat) continue;
    const name = input.prefix ? `${input.prefix}/${path}` : path;
    let header = layerHeader(name, fullPath, stat);
    if (!header) continue;
    if (stat.nlink > 1 && !isDirMode(stat.mode)) {
      const target = links.get(inodeKey(stat));
      if (target === undefined) links.set(inodeKey(stat), name);
      else header = { ...header, type: TarType.link, linkname: target, size: 0 };
    }
    // Rounded, not cut.
    const seconds = stat.mtimeSec + (stat.mtimeNsec >= 500_000_000 ? 1 : 0);
    const xattrs = readXattrs(fullPath);
    header = {
      ...header,
      ...input.owner,
      mtime: { sec: Math.min(seconds, input.maxTimeSec ?? seconds), nsec: 0 },
      ...(xattrs && { xattrs: new Map(Object.entries(xattrs)) }),
    };
    yield* stream.header(header);
    if (header.type === TarType.file && header.size > 0) yield* fileData(stream, fullPath, header.size);
  }
  yield* stream.finish();
}

function* fileData(stream: TarStream, path: string, size: number): Generator<Buffer, void, void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    yield* stream.file(fd, size);
  } finally {
    closeSync(fd);
  }
}

export interface ConvertBlobInput {
  readonly source: string;
  /** Latest time of an entry, in seconds; later ones become this. */
  readonly maxTimeSec?: number;
  readonly compression: PackCompression;
  readonly level?: number;
  readonly blob: string;
}

/** Packs a blob file anew with another compression; the archive stays the same, but for times that are too late. */
export function convertBlob(input: ConvertBlobInput, context: JobContext): Promise<BlobResult> {
  const { source, maxTimeSec } = input;
  const archive = readLayer(source);
  return writeBlob(maxTimeSec === undefined ? archive : clampTimes(archive, maxTimeSec), input, context);
}

/** A file of an archive that is put together by hand. `data` is bytes, or a file of `size` bytes. */
export interface ArchiveFile {
  readonly name: string;
  readonly mode?: number;
  readonly mtimeSec?: number;
  readonly data: Uint8Array | { readonly file: string; readonly size: number };
}

/** An archive of plain files and (names ending in a slash) directories, in the order given. */
export function* fileArchive(files: Iterable<ArchiveFile>): Generator<Buffer, void, void> {
  const stream = new TarStream();
  for (const { name, mode, mtimeSec, data } of files) {
    const dir = name.endsWith('/');
    const size = data instanceof Uint8Array ? data.length : data.size;
    const header: TarHeader = {
      name,
      type: dir ? TarType.dir : TarType.file,
      mode: mode ?? (dir ? 0o755 : 0o644),
      uid: 0,
      gid: 0,
      size: dir ? 0 : size,
      mtime: { sec: mtimeSec ?? 0, nsec: 0 },
      linkname: '',
      devMajor: 0,
      devMinor: 0,
    };
    yield* stream.header(header);
    if (dir || size === 0) continue;
    if (data instanceof Uint8Array) {
      yield* stream.put(data);
      yield* stream.put(new Uint8Array((512 - (size % 512)) % 512));
    } else yield* fileData(stream, data.file, data.size);
  }
  yield* stream.finish();
}
