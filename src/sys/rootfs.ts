import { closeSync, fchmodSync, openSync, readdirSync, readlinkSync, constants as c } from 'node:fs';
import { errnoName, SystemError } from './errno.ts';
import { cfunc, check, lastErrno, SYS } from './ffi.ts';
import { type FileTime, utimesAt } from './file.ts';
import { O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_PATH, openInRoot, RootDirs } from './rootdirs.ts';
import { type FileStat, fstat, isDirMode, isRegularMode, makedev, statAt, statAtOrNone } from './stat.ts';
import { lgetxattr, llistxattr, lremovexattr, lsetxattr, readXattrs } from './xattr.ts';

const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_REMOVEDIR = 0x200;
const PATH_MAX = 4096;
/** Permission bits that a usual umask takes away; set again after creation. */
const UMASKED = 0o7022;

const openatCall = cfunc<[number, string, number, number]>('openat', 'int', [
  'int',
  'const char *',
  'int',
  'uint',
]);
const mkdiratCall = cfunc<[number, string, number]>('mkdirat', 'int', ['int', 'const char *', 'uint']);
const mknodatCall = cfunc<[number, string, number, number]>('mknodat', 'int', [
  'int',
  'const char *',
  'uint',
  'uint64_t',
]);
const symlinkatCall = cfunc<[string, number, string]>('symlinkat', 'int', [
  'const char *',
  'int',
  'const char *',
]);
const linkatCall = cfunc<[number, string, number, string, number]>('linkat', 'int', [
  'int',
  'const char *',
  'int',
  'const char *',
  'int',
]);
const unlinkatCall = cfunc<[number, string, number]>('unlinkat', 'int', ['int', 'const char *', 'int']);
const renameatCall = cfunc<[number, string, number, string]>('renameat', 'int', [
  'int',
  'const char *',
  'int',
  'const char *',
]);
const fchownatCall = cfunc<[number, string, number, number, number]>('fchownat', 'int', [
  'int',
  'const char *',
  'uint',
  'uint',
  'int',
]);
const readlinkatCall = cfunc<[number, string, Uint8Array, number]>('readlinkat', 'int64_t', [
  'int',
  'const char *',
  'void *',
  'size_t',
]);
const fchmodat2Call = cfunc<[number, number, string, number, number]>('syscall', 'long', [
  'long',
  'int',
  'const char *',
  'uint',
  'int',
]);
const fchmodatCall = cfunc<[number, string, number, number]>('fchmodat', 'int', [
  'int',
  'const char *',
  'uint',
  'int',
]);
let hasFchmodat2 = true;
let linkBuffer: Buffer | undefined;

/** Opens `dir` as a root. The caller disposes it. @throws SystemError */
export function openRootfs(dir: string): Rootfs {
  return new Rootfs(dir);
}

/**
 * File operations below a directory whose content is foreign: `..` and symlinks, absolute ones too, stay
 * inside it, as in a chroot. Paths may start with `/` or not. The last part of a path is never followed
 * when it is a symlink, except where a method says so. Synchronous, and quick for many files in one
 * directory: the directories used last stay open until it is disposed (and keep their mount busy). Errors are SystemErrors with the path as given.
 */
export class Rootfs implements Disposable {
  /** The directory itself, O_PATH. */
  readonly fd: number;
  readonly dir: string;
  readonly #dirs: RootDirs;
  /** Result of the last #at(). */
  #parent = -1;
  #name = '';
  #closed = false;

  constructor(dir: string) {
    this.dir = dir;
    this.fd = openSync(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    this.#dirs = new RootDirs(this.fd);
  }

  [Symbol.dispose](): void {
    this.#dirs[Symbol.dispose]();
    if (!this.#closed) closeSync(this.fd);
    this.#closed = true;
  }

  /** Splits `path` into an open directory and a name in it that is neither `..` nor holds a slash. */
  #at(path: string): void {
    if (path.includes('\0')) throw new SystemError('EINVAL', 'open', path);
    let end = path.length;
    while (end > 0 && path.charCodeAt(end - 1) === 47) end--;
    const slash = path.lastIndexOf('/', end - 1);
    const name = path.slice(slash + 1, end);
    if (name === '' || name === '.' || name === '..') {
      this.#parent = this.#dirs.get(path);
      this.#name = '.';
    } else {
      this.#parent = slash <= 0 ? this.fd : this.#dirs.get(path.slice(0, slash));
      this.#name = name;
    }
  }

  #fail(syscall: string, path: string, dest?: string): never {
    throw new SystemError(lastErrno(), syscall, path, dest);
  }

  /**
   * Opens `path`, following symlinks inside the root (also the last one, unless `flags` has O_NOFOLLOW).
   * The descriptor is the caller's. Foreign files may be FIFOs: give O_NONBLOCK, or use openFile.
   */
  open(path: string, flags: number, mode = 0): number {
    if (path.includes('\0')) throw new SystemError('EINVAL', 'open', path);
    const fd = openInRoot(this.fd, path, flags, flags & (c.O_CREAT | 0o20000000) ? mode : 0);
    if (fd < 0) throw new SystemError(-fd, 'open', path);
    return fd;
  }

  /** Opens a regular file for reading, following symlinks; anything else is EINVAL. */
  openFile(path: string): number {
    const fd = this.open(path, c.O_RDONLY | c.O_NONBLOCK | c.O_NOCTTY);
    if (isRegularMode(fstat(fd).mode)) return fd;
    closeSync(fd);
    throw new SystemError('EINVAL', 'open', path);
  }

  /** Opens a regular file for reading; a symlink is ELOOP, anything else EINVAL. */
  openFileNoFollow(path: string): number {
    this.#at(path);
    const fd = openatCall(
      this.#parent,
      this.#name,
      c.O_RDONLY | c.O_NONBLOCK | c.O_NOCTTY | O_NOFOLLOW | O_CLOEXEC,
      0,
    );
    if (fd < 0) this.#fail('open', path);
    if (isRegularMode(fstat(fd).mode)) return fd;
    closeSync(fd);
    throw new SystemError('EINVAL', 'open', path);
  }

  /** Creates a regular file with exactly this mode and opens it for writing. Existing names are EEXIST. */
  createFile(path: string, mode: number): number {
    this.#at(path);
    const flags = c.O_WRONLY | c.O_CREAT | c.O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    const fd = openatCall(this.#parent, this.#name, flags, mode & 0o7777);
    if (fd < 0) this.#fail('open', path);
    if (mode & UMASKED) fchmodSync(fd, mode & 0o7777);
    return fd;
  }

  /** lstat. */
  lstat(path: string): FileStat {
    this.#at(path);
    return statAt(this.#parent, this.#name, path);
  }

  /** lstat, or undefined when there is nothing of that name. */
  lstatOrNone(path: string): FileStat | undefined {
    try {
      this.#at(path);
    } catch (error) {
      if (error instanceof SystemError && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
        return undefined;
      throw error;
    }
    return statAtOrNone(this.#parent, this.#name, path);
  }

  /** stat: symlinks are followed inside the root. */
  stat(path: string): FileStat {
    const fd = this.open(path, O_PATH);
    try {
      return fstat(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Path inside the root, starting with `/`, after following every symlink. ENOENT when it does not exist. */
  resolve(path: string): string {
    const fd = this.open(path, O_PATH);
    try {
      const root = readlinkSync(`/proc/thread-self/fd/${this.fd}`);
      const full = readlinkSync(`/proc/thread-self/fd/${fd}`);
      if (root === '/') return full;
      if (full === root) return '/';
      if (!full.startsWith(`${root}/`)) throw new SystemError('EXDEV', 'open', path);
      return full.slice(root.length);
    } finally {
      closeSync(fd);
    }
  }

  /** Makes one directory with exactly this mode. */
  mkdir(path: string, mode: number): void {
    this.#at(path);
    if (mkdiratCall(this.#parent, this.#name, mode & 0o7777) < 0) this.#fail('mkdir', path);
    if (mode & UMASKED) this.chmod(path, mode);
  }

  /**
   * Makes `path` and its missing parents. Symlinks to directories are followed; a dangling one or a file
   * in the way is an error. `created` is called for every directory made, parents first.
   */
  mkdirAll(path: string, mode: number, created?: (path: string) => void): void {
    if (path.includes('\0')) throw new SystemError('EINVAL', 'mkdir', path);
    const fd = this.#dirs.tryGet(path);
    if (fd >= 0) return;
    if (fd !== -2) throw new SystemError(-fd, 'mkdir', path);
    let end = path.length;
    while (end > 0 && path.charCodeAt(end - 1) === 47) end--;
    const slash = path.lastIndexOf('/', end - 1);
    if (slash > 0) this.mkdirAll(path.slice(0, slash), mode, created);
    this.#at(path.slice(0, end));
    if (this.#name !== '.') {
      if (mkdiratCall(this.#parent, this.#name, mode & 0o7777) === 0) {
        if (mode & UMASKED) this.chmod(path, mode);
        created?.(path.slice(0, end));
        return;
      }
      const number = lastErrno();
      if (number !== 17) throw new SystemError(number, 'mkdir', path);
    }
    this.#dirs.get(path);
  }

  readlink(path: string): string {
    this.#at(path);
    linkBuffer ??= Buffer.allocUnsafeSlow(PATH_MAX);
    const length = readlinkatCall(this.#parent, this.#name, linkBuffer, PATH_MAX);
    if (length < 0) this.#fail('readlink', path);
    return linkBuffer.toString('utf8', 0, length);
  }

  /** `target` is stored as it is. */
  symlink(target: string, path: string): void {
    if (target.includes('\0')) throw new SystemError('EINVAL', 'symlink', target, path);
    this.#at(path);
    if (symlinkatCall(target, this.#parent, this.#name) < 0) this.#fail('symlink', target, path);
  }

  /** Hard link to `oldPath` itself, also when that is a symlink. */
  link(oldPath: string, newPath: string): void {
    this.#at(oldPath);
    const parent = this.#parent;
    const name = this.#name;
    this.#at(newPath);
    if (linkatCall(parent, name, this.#parent, this.#name, 0) < 0) this.#fail('link', oldPath, newPath);
  }

  /** Replaces `newPath`. */
  rename(oldPath: string, newPath: string): void {
    this.#at(oldPath);
    const parent = this.#parent;
    const name = this.#name;
    this.#at(newPath);
    if (renameatCall(parent, name, this.#parent, this.#name) < 0) this.#fail('rename', oldPath, newPath);
    this.#dirs.forget(oldPath);
    this.#dirs.forget(newPath);
  }

  /** Makes a node of type and permissions `mode`, exactly these. */
  mknod(path: string, mode: number, major = 0, minor = 0): void {
    this.#at(path);
    if (mknodatCall(this.#parent, this.#name, mode, makedev(major, minor)) < 0) this.#fail('mknod', path);
    if (mode & UMASKED) this.chmod(path, mode);
  }

  /** Removes a file, symlink or node. */
  unlink(path: string): void {
    this.#at(path);
    if (unlinkatCall(this.#parent, this.#name, 0) < 0) this.#fail('unlink', path);
    this.#dirs.forgetAliases();
  }

  /** Removes an empty directory. */
  rmdir(path: string): void {
    this.#at(path);
    if (unlinkatCall(this.#parent, this.#name, AT_REMOVEDIR) < 0) this.#fail('rmdir', path);
    this.#dirs.forget(path);
  }

  /** Removes whatever is there with all below it; nothing there is no error. The root itself is only emptied. */
  removeAll(path: string): void {
    const stat = this.lstatOrNone(path);
    if (!stat) return;
    if (!isDirMode(stat.mode)) {
      this.unlink(path);
      return;
    }
    this.#at(path);
    const isRoot = this.#name === '.';
    const prefix = path.endsWith('/') || path === '' ? path : `${path}/`;
    for (const name of this.readdir(path)) this.removeAll(prefix + name);
    if (!isRoot) this.rmdir(path);
  }

  /** Names in a directory, unsorted. The last part is not followed. */
  readdir(path: string): string[] {
    this.#at(path);
    const flags = c.O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    const fd = openatCall(this.#parent, this.#name, flags, 0);
    if (fd < 0) this.#fail('open', path);
    try {
      return readdirSync(`/proc/thread-self/fd/${fd}`);
    } finally {
      closeSync(fd);
    }
  }

  /** A symlink itself changes owner. */
  lchown(path: string, uid: number, gid: number): void {
    this.#at(path);
    if (fchownatCall(this.#parent, this.#name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0) this.#fail('lchown', path);
  }

  /** Permission bits of anything but a symlink (EOPNOTSUPP). */
  chmod(path: string, mode: number): void {
    this.#at(path);
    const bits = mode & 0o7777;
    if (hasFchmodat2) {
      if (fchmodat2Call(SYS.fchmodat2, this.#parent, this.#name, bits, AT_SYMLINK_NOFOLLOW) === 0) return;
      if (errnoName(lastErrno()) !== 'ENOSYS') this.#fail('chmod', path);
      hasFchmodat2 = false;
    }
    check(fchmodatCall(this.#parent, this.#name, bits, AT_SYMLINK_NOFOLLOW), 'chmod', path);
  }

  /** Times to the nanosecond, of a symlink itself; an undefined one stays. */
  utimes(path: string, atime: FileTime | undefined, mtime: FileTime | undefined): void {
    this.#at(path);
    utimesAt(this.#parent, this.#name, atime, mtime, path);
  }

  /** A path by which Node's file functions and the l*xattr calls reach `path`; good until the next call here. */
  procPath(path: string): string {
    this.#at(path);
    return `/proc/thread-self/fd/${this.#parent}/${this.#name}`;
  }

  getXattr(path: string, name: string): Buffer | undefined {
    return lgetxattr(this.procPath(path), name, path);
  }

  setXattr(path: string, name: string, value: Uint8Array): void {
    lsetxattr(this.procPath(path), name, value, path);
  }

  listXattr(path: string): string[] {
    return llistxattr(this.procPath(path), path);
  }

  removeXattr(path: string, name: string): void {
    lremovexattr(this.procPath(path), name, path);
  }

  /** All attributes with values; undefined when there are none. */
  readXattrs(path: string): Record<string, Buffer> | undefined {
    return readXattrs(this.procPath(path), path);
  }
}
