import { closeSync } from 'node:fs';
import { SystemError } from './errno.ts';
import { cfunc, lastErrno, SYS } from './ffi.ts';

const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_IN_ROOT = 0x10;
export const O_PATH = 0o10000000;
export const O_CLOEXEC = 0o2000000;
export const O_DIRECTORY = process.arch === 'arm64' || process.arch === 'arm' ? 0o40000 : 0o200000;
export const O_NOFOLLOW = process.arch === 'arm64' || process.arch === 'arm' ? 0o100000 : 0o400000;

/** A rename elsewhere in the tree makes the kernel give up a look-up; it is then tried again. */
const MAX_TRIES = 64;
/** Directories kept open per root. */
const MAX_OPEN_DIRS = 32;

const openat2Call = cfunc<[number, number, string, Uint8Array, number]>('syscall', 'long', [
  'long',
  'int',
  'const char *',
  'void *',
  'size_t',
]);
const how = new Uint8Array(24);
const howView = new DataView(how.buffer);
const LE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function rawOpen(root: number, path: string, flags: number, mode: number, resolve: number): number {
  howView.setUint32(LE ? 0 : 4, flags >>> 0, LE);
  howView.setUint32(LE ? 8 : 12, mode >>> 0, LE);
  howView.setUint32(LE ? 16 : 20, resolve, LE);
  for (let tries = 0; ; tries++) {
    const fd = openat2Call(SYS.openat2, root, path, how, how.length);
    if (fd >= 0) return fd;
    const number = lastErrno();
    if ((number !== 11 && number !== 4) || tries >= MAX_TRIES) return -number;
  }
}

/** openat2(2) with `root` as the root directory of every look-up. Negative errno on failure. */
export function openInRoot(root: number, path: string, flags: number, mode: number): number {
  return rawOpen(root, path || '.', flags | O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/**
 * Open directories of one root by their path as written. One that was reached through a symlink is
 * forgotten as soon as anything is removed or renamed, since the link may be gone; the others when they
 * or a parent are.
 */
export class RootDirs implements Disposable {
  readonly #root: number;
  readonly #direct = new Map<string, number>();
  readonly #aliased = new Map<string, number>();
  #lastPath: string | undefined;
  #lastFd = -1;

  constructor(root: number) {
    this.#root = root;
  }

  /** Descriptor (O_PATH) of directory `path`, valid until two more are asked for. @throws SystemError */
  get(path: string): number {
    if (path === this.#lastPath) return this.#lastFd;
    if (path === '' || path === '/') return this.#root;
    let fd = this.#kept(path);
    if (fd === undefined) {
      fd = this.#open(path);
      if (fd < 0) throw new SystemError(-fd, 'open', path);
    }
    this.#lastPath = path;
    this.#lastFd = fd;
    return fd;
  }

  /** Negative errno instead of an exception. */
  tryGet(path: string): number {
    if (path === '' || path === '/') return this.#root;
    return this.#kept(path) ?? this.#open(path);
  }

  #kept(path: string): number | undefined {
    const map = this.#direct.has(path) ? this.#direct : this.#aliased;
    const fd = map.get(path);
    if (fd === undefined) return undefined;
    map.delete(path);
    map.set(path, fd);
    return fd;
  }

  #open(path: string): number {
    const flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    const resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    let fd = rawOpen(this.#root, path, flags, 0, resolve | RESOLVE_NO_SYMLINKS);
    // `..` may lead back over a directory that is removed meanwhile: kept as loosely as one behind a link.
    let map = path.includes('..') ? this.#aliased : this.#direct;
    if (fd === -40) {
      map = this.#aliased;
      fd = rawOpen(this.#root, path, flags, 0, resolve);
    }
    if (fd < 0) return fd;
    const [oldest] = map.keys();
    if (map.size >= MAX_OPEN_DIRS && oldest !== undefined) this.#drop(map, oldest);
    map.set(path, fd);
    return fd;
  }

  /** To be called when `path` has been removed or renamed. */
  forget(path: string): void {
    this.#lastPath = undefined;
    for (const key of [...this.#aliased.keys()]) this.#drop(this.#aliased, key);
    if (this.#direct.size === 0) return;
    const plain = trim(path);
    for (const key of [...this.#direct.keys()]) {
      const dir = trim(key);
      if (dir === plain || dir.startsWith(`${plain}/`)) this.#drop(this.#direct, key);
    }
  }

  /** To be called when a symlink or file, not a directory, has been removed. */
  forgetAliases(): void {
    if (this.#aliased.size === 0) return;
    this.#lastPath = undefined;
    for (const key of [...this.#aliased.keys()]) this.#drop(this.#aliased, key);
  }

  #drop(map: Map<string, number>, key: string): void {
    const fd = map.get(key);
    map.delete(key);
    if (fd !== undefined) closeSync(fd);
  }

  [Symbol.dispose](): void {
    this.#lastPath = undefined;
    for (const map of [this.#direct, this.#aliased]) for (const key of [...map.keys()]) this.#drop(map, key);
  }
}

/** Without leading and doubled slashes and `.` parts, so that two spellings of a path compare equal. */
function trim(path: string): string {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}
