import { createHash, type Hash } from 'node:crypto';
import { closeSync, fchmodSync, fchownSync, writeSync } from 'node:fs';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError, Code, errno } from '../base/errors.ts';
import { basePath, cleanPath, dirPath } from '../match/paths.ts';
import type { JobContext } from '../pool/types.ts';
import { futimes } from '../sys/file.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { isDirMode, isSymlinkMode, S_IFBLK, S_IFCHR, S_IFIFO } from '../sys/stat.ts';
import { readBlob } from './compression.ts';
import { type TarHeader, type TarTime, TarType } from './tar-header.ts';
import { type TarHandler, TarReader } from './tar-reader.ts';
import { settleLayer, type Unsettled } from './settle.ts';
import { setXattr } from './extracted-xattr.ts';

export const WHITEOUT_PREFIX = '.wh.';
export const OPAQUE_MARK = '.wh..wh..opq';
/** Names that a layer unpacked ahead may leave to be settled: they are kept until its parents are there. */
const MAX_UNSETTLED = 2000;
const EMPTY_DIGEST = digestOf('');
/** As many as the kernel follows. */
const MAX_LINKS = 40;
export const OPAQUE_XATTR = 'trusted.overlay.opaque';

export interface ApplyLayerInput {
  /** Blob file, compressed or not. */
  readonly blob: string;
  /** Directory to extract into: the upper directory of an overlay, or the whole tree. */
  readonly target: string;
  /** Whiteouts become overlayfs marks, or remove what is there. */
  readonly whiteouts: 'overlay' | 'delete';
  /** Trees below, top first, that give owner and mode to directories the layer does not mention. */
  readonly parents?: readonly string[];
  /** The trees below are not there yet: what depends on them is told, and left to `settleLayer`. */
  readonly ahead?: boolean;
}

export interface ApplyLayerResult {
  /** Digest of the uncompressed archive. */
  readonly diffId: Digest;
  /** Bytes of file data. */
  readonly size: number;
  /** Bytes of the uncompressed archive. */
  readonly archiveSize: number;
  /** Of a layer that was unpacked ahead, if anything is. */
  readonly unsettled?: Unsettled;
  /** Too much of a layer depends on those below it to be ahead: it was not unpacked to its end. */
  readonly tooMuch?: boolean;
}

/** Extracts a layer. What was written stays when it fails; the caller drops the directory. */
export async function applyLayer(input: ApplyLayerInput, context: JobContext): Promise<ApplyLayerResult> {
  using target = openRootfs(input.target);
  const extractor = new Extractor(target, { whiteouts: input.whiteouts });
  const reader = new TarReader(extractor);
  const hash: Hash = createHash('sha256');
  let archiveSize = 0;
  try {
    for await (const chunk of readBlob(input.blob)) {
      context.throwIfAborted();
      hash.update(chunk);
      archiveSize += chunk.length;
      reader.push(chunk);
      if (input.ahead && extractor.unsettledNames > MAX_UNSETTLED)
        return { diffId: EMPTY_DIGEST, size: 0, archiveSize: 0, tooMuch: true };
    }
    reader.close();
    extractor.finish();
  } finally {
    extractor.closeFile();
  }
  const diffId = `sha256:${hash.digest('hex')}` as Digest;
  const result = { diffId, size: extractor.size, archiveSize };
  const { unsettled } = extractor;
  if (!unsettled) return result;
  if (input.ahead) return { ...result, unsettled };
  settleLayer({ target: input.target, parents: input.parents ?? [], unsettled }, context);
  return result;
}

/** Where `path` leads inside the root, with `name` behind it; parts that are not there are taken at their word. */
function followLinks(root: Rootfs, path: string, name = ''): string {
  const todo = path.split('/').reverse();
  let at = '';
  for (let links = 0; todo.length > 0; ) {
    const name = todo.pop()!;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      at = dirPath(at);
      if (at === '.') at = '';
      continue;
    }
    const next = at === '' ? name : `${at}/${name}`;
    const stat = root.lstatOrNone(next);
    if (!stat || !isSymlinkMode(stat.mode)) {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS) throw new BuildError(`${path}: too many levels of symbolic links`);
    const target = root.readlink(next);
    if (target.startsWith('/')) at = '';
    todo.push(...target.split('/').reverse());
  }
  if (name !== '') return at === '' ? name : `${at}/${name}`;
  return at;
}

export interface ExtractorOptions {
  /** `keep`: names of whiteouts are names like others. */
  readonly whiteouts: 'overlay' | 'delete' | 'keep';
  /** Of every entry, instead of its own. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Attributes that cannot be set are left out. */
  readonly looseXattrs?: boolean;
}

/** Writes the entries of an archive below a root. */
export class Extractor implements TarHandler {
  size = 0;
  readonly #root: Rootfs;
  readonly #options: ExtractorOptions;
  readonly #overlay: boolean;
  /** Times of directories, set when nothing is written to them any more. */
  readonly #dirTimes = new Map<string, TarHeader>();
  /** Directories that were made without an entry. */
  readonly #unlisted = new Set<string>();
  /** Marks that hide something of a layer below, or would. */
  readonly #marks = new Set<string>();
  /** What this layer has written, for opaque marks that come late. Only kept where whiteouts remove. */
  readonly #written = new Set<string>();
  /** Directory whose existence was checked last. */
  #lastParent: string | undefined;
  #file: { readonly fd: number; readonly path: string; readonly header: TarHeader } | undefined;

  constructor(root: Rootfs, options: ExtractorOptions) {
    this.#root = root;
    this.#options = options;
    this.#overlay = options.whiteouts === 'overlay';
  }

  entry(raw: TarHeader): void {
    const header = this.#options.owner ? { ...raw, ...this.#options.owner } : raw;
    this.closeFile();
    this.size += header.size;
    if (header.type === 'g') return;
    // Leading `..` parts stay at the root.
    const path = cleanPath(`/${cleanPath(header.name)}`).slice(1);
    if (path === '') return;
    const dir = dirPath(path);
    this.#makeParent(dir);
    const name = basePath(path);
    if (name.startsWith(WHITEOUT_PREFIX) && this.#options.whiteouts !== 'keep') {
      this.#whiteout(header, dir, name);
      return;
    }
    this.#clear(path, header);
    this.#create(path, header);
    if (this.#options.whiteouts === 'delete') this.#written.add(path);
  }

  data(chunk: Buffer): void {
    if (!this.#file) return;
    for (let at = 0; at < chunk.length; ) at += writeSync(this.#file.fd, chunk, at, chunk.length - at, null);
  }

  end(): void {
    const file = this.#file;
    if (!file) return;
    const { header, fd } = file;
    fchownSync(fd, header.uid, header.gid);
    this.#xattrs(file.path, header);
    fchmodSync(fd, header.mode);
    futimes(fd, accessTime(header), bound(header.mtime));
    this.closeFile();
  }

  /** To be called after the last entry. */
  finish(): void {
    for (const [path, header] of this.#dirTimes) {
      const stat = this.#root.lstatOrNone(path);
      if (stat && isDirMode(stat.mode)) this.#root.utimes(path, accessTime(header), bound(header.mtime));
    }
  }

  /** How much depends on the layers below. */
  get unsettledNames(): number {
    return this.#unlisted.size + this.#marks.size;
  }

  /** What depends on the layers below, if anything does. */
  get unsettled(): Unsettled | undefined {
    // The archive may list a directory by another way than the one that led to it first; its own name is the same.
    const names = new Set([...this.#unlisted].map(basePath));
    const same = [...this.#dirTimes.keys()].filter((dir) => names.has(basePath(dir)));
    const listed = new Set(same.map((dir) => followLinks(this.#root, dir)));
    const dirs = [...this.#unlisted].filter((dir) => !listed.has(dir));
    return dirs.length + this.#marks.size === 0 ? undefined : { dirs, marks: [...this.#marks] };
  }

  closeFile(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file) closeSync(file.fd);
  }

  #makeParent(dir: string): void {
    if (dir === '.' || dir === this.#lastParent) return;
    const made = (path: string): void => void this.#unlisted.add(followLinks(this.#root, path));
    try {
      this.#root.mkdirAll(dir, 0o755, made);
    } catch (error) {
      if (errno(error) !== 'ENOENT') throw error;
      // A link of this layer to a directory of one below: that one is made here, too.
      this.#root.mkdirAll(followLinks(this.#root, dir), 0o755, made);
    }
    this.#lastParent = dir;
  }

  /** Removes what is in the way; two directories are merged. */
  #clear(path: string, header: TarHeader): void {
    const stat = this.#root.lstatOrNone(path);
    if (!stat || (isDirMode(stat.mode) && header.type === TarType.dir)) return;
    this.#root.removeAll(path);
    this.#lastParent = undefined;
  }

  #create(path: string, header: TarHeader): void {
    const root = this.#root;
    switch (header.type) {
      case TarType.file:
        this.#file = { fd: root.createFile(path, 0o600), path, header };
        return;
      case TarType.dir:
        if (!root.lstatOrNone(path)) root.mkdir(path, header.mode);
        this.#dirTimes.set(path, header);
        break;
      case TarType.link:
        root.link(cleanPath(`/${cleanPath(header.linkname)}`), path);
        break;
      case TarType.symlink:
        root.symlink(header.linkname, path);
        break;
      case TarType.char:
      case TarType.block:
      case TarType.fifo: {
        const type = { [TarType.char]: S_IFCHR, [TarType.block]: S_IFBLK, [TarType.fifo]: S_IFIFO }[
          header.type
        ];
        root.mknod(path, type! | (header.mode & 0o7777), header.devMajor, header.devMinor);
        break;
      }
      default:
        throw new BuildError(`unhandled tar header type ${header.type.charCodeAt(0)}`, {
          code: Code.invalidArgument,
        });
    }
    root.lchown(path, header.uid, header.gid);
    this.#xattrs(path, header);
    if (!isSymlinkMode(root.lstat(path).mode)) root.chmod(path, header.mode);
    root.utimes(path, accessTime(header), bound(header.mtime));
  }

  #xattrs(path: string, header: TarHeader): void {
    for (const [name, value] of header.xattrs ?? []) {
      // The administrator's own: overlayfs would take some of them for its marks.
      if (name.startsWith('trusted.')) continue;
      try {
        setXattr(this.#root, path, name, value);
      } catch (error) {
        if (!this.#options.looseXattrs) throw error;
      }
    }
  }

  #whiteout(header: TarHeader, dir: string, name: string): void {
    if (name === OPAQUE_MARK) {
      if (this.#overlay) this.#root.setXattr(dir, OPAQUE_XATTR, Buffer.from('y'));
      else this.#removeUnwritten(dir);
      return;
    }
    const hidden = name.slice(WHITEOUT_PREFIX.length);
    if (hidden === '' || hidden === '.' || hidden === '..')
      throw new BuildError(`invalid whiteout name: ${name}: invalid archive`, { code: Code.invalidArgument });
    const path = dir === '.' ? hidden : `${dir}/${hidden}`;
    if (this.#overlay) {
      this.#hide(header, path);
      return;
    }
    this.#root.removeAll(path);
    this.#lastParent = undefined;
  }

  #hide(header: TarHeader, path: string): void {
    this.#marks.add(followLinks(this.#root, dirPath(path), basePath(path)));
    try {
      this.#root.mknod(path, S_IFCHR, 0, 0);
    } catch (error) {
      if (errno(error) !== 'EEXIST') throw error;
      // The layer holds the name itself: only what lies below is hidden.
      if (isDirMode(this.#root.lstat(path).mode)) this.#root.setXattr(path, OPAQUE_XATTR, Buffer.from('y'));
      return;
    }
    this.#root.lchown(path, header.uid, header.gid);
  }

  #removeUnwritten(dir: string): void {
    for (const name of this.#root.readdir(dir)) {
      const path = dir === '.' ? name : `${dir}/${name}`;
      if (!this.#written.has(path)) this.#root.removeAll(path);
      else if (isDirMode(this.#root.lstat(path).mode)) this.#removeUnwritten(path);
    }
    this.#lastParent = undefined;
  }
}

/** Times before 1970 become 1970. */
function bound(time: TarTime): TarTime {
  return time.sec < 0 ? { sec: 0, nsec: 0 } : time;
}

/** Not before the modification. */
function accessTime(header: TarHeader): TarTime {
  const { atime, mtime } = header;
  if (!atime) return bound(mtime);
  const later = atime.sec > mtime.sec || (atime.sec === mtime.sec && atime.nsec > mtime.nsec);
  return bound(later ? atime : mtime);
}
