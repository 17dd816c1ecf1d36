import { closeSync, openSync } from 'node:fs';
import type { Mount } from '../oci/mount.ts';
import { errnoName, SystemError } from './errno.ts';
import { cfunc, cfuncAsync, check, lastErrno, SYS } from './ffi.ts';
import { mountsUnder } from './mountinfo.ts';
import { O_CLOEXEC, O_PATH } from './rootdirs.ts';

export const MS_RDONLY = 0x1;
export const MS_NOSUID = 0x2;
export const MS_NODEV = 0x4;
export const MS_NOEXEC = 0x8;
export const MS_REMOUNT = 0x20;
export const MS_NOATIME = 0x400;
export const MS_BIND = 0x1000;
export const MS_REC = 0x4000;
export const MS_PRIVATE = 0x4_0000;
export const MS_SLAVE = 0x8_0000;
export const MNT_DETACH = 2;

/** Longest option string of the classic call: one page less its terminator, on any page size. */
const MAX_DATA_BYTES = 4095;

const mountCall = cfunc<[string | null, string, string | null, number, string | null]>('mount', 'int', [
  'const char *',
  'const char *',
  'const char *',
  'ulong',
  'const char *',
]);
const umountCall = cfunc<[string, number]>('umount2', 'int', ['const char *', 'int']);
const umountAsyncCall = cfuncAsync<[string, number]>('umount2', 'int', ['const char *', 'int']);
const fsopenCall = cfunc<[number, string, number]>('syscall', 'long', ['long', 'const char *', 'uint']);
const fsconfigCall = cfunc<[number, number, number, string | null, string | null, number]>(
  'syscall',
  'long',
  ['long', 'int', 'uint', 'const char *', 'const char *', 'int'],
);
const fsmountCall = cfunc<[number, number, number, number]>('syscall', 'long', [
  'long',
  'int',
  'uint',
  'uint',
]);
const moveMountCall = cfunc<[number, number, string, number, string, number]>('syscall', 'long', [
  'long',
  'int',
  'const char *',
  'int',
  'const char *',
  'uint',
]);

/** mount(2). @throws SystemError */
export function mountRaw(
  source: string,
  target: string,
  type: string | null,
  flags: number,
  data?: string,
): void {
  if (source.includes('\0') || target.includes('\0')) throw new SystemError('EINVAL', 'mount', target);
  check(mountCall(source, target, type, flags, data ?? null), 'mount', source, target);
}

/** umount2(2). @throws SystemError */
export function umount(target: string, flags = 0): void {
  check(umountCall(target, flags), 'unmount', target);
}

/** Unmounts off the main thread: the kernel waits for a grace period in it. */
export async function umountAsync(target: string, flags = 0): Promise<void> {
  const { value, errno } = await umountAsyncCall(target, flags);
  if (value < 0) throw new SystemError(errno, 'unmount', target);
}

/** Detaches every mount at `target`; nothing mounted there is no error. */
export function detachAll(target: string): void {
  while (umountCall(target, MNT_DETACH) === 0);
  const number = lastErrno();
  if (number !== 22 && number !== 2) throw new SystemError(number, 'unmount', target);
}

/** Detaches everything at or below `dir`, as this thread sees it. */
export function detachUnder(dir: string): void {
  for (const { mountPoint } of mountsUnder(dir)) umountCall(mountPoint, MNT_DETACH);
}

interface Parsed {
  readonly flags: number;
  readonly propagation: number;
  readonly data: readonly string[];
}

const FLAGS: Readonly<Record<string, readonly [clear: boolean, flag: number]>> = {
  async: [true, 0x10],
  atime: [true, MS_NOATIME],
  bind: [false, MS_BIND],
  defaults: [false, 0],
  dev: [true, MS_NODEV],
  diratime: [true, 0x800],
  dirsync: [false, 0x80],
  exec: [true, MS_NOEXEC],
  noatime: [false, MS_NOATIME],
  nodev: [false, MS_NODEV],
  nodiratime: [false, 0x800],
  noexec: [false, MS_NOEXEC],
  norelatime: [true, 0x20_0000],
  nostrictatime: [true, 0x100_0000],
  nosuid: [false, MS_NOSUID],
  rbind: [false, MS_BIND | MS_REC],
  relatime: [false, 0x20_0000],
  remount: [false, MS_REMOUNT],
  ro: [false, MS_RDONLY],
  rw: [true, MS_RDONLY],
  strictatime: [false, 0x100_0000],
  suid: [true, MS_NOSUID],
  sync: [false, 0x10],
};

const PROPAGATION: Readonly<Record<string, number>> = {
  private: MS_PRIVATE,
  rprivate: MS_PRIVATE | MS_REC,
  shared: 0x10_0000,
  rshared: 0x10_0000 | MS_REC,
  slave: MS_SLAVE,
  rslave: MS_SLAVE | MS_REC,
  unbindable: 0x2_0000,
  runbindable: 0x2_0000 | MS_REC,
};

/** Splits mount(8)-style options into flags, propagation flags and data for the file system. */
export function parseMountOptions(options: readonly string[]): Parsed {
  let flags = 0;
  let propagation = 0;
  const data: string[] = [];
  for (const option of options) {
    const flag = FLAGS[option];
    if (flag) flags = flag[0] ? flags & ~flag[1] : flags | flag[1];
    else if (PROPAGATION[option] !== undefined) propagation |= PROPAGATION[option];
    else if (option !== '') data.push(option);
  }
  return { flags, propagation, data };
}

/**
 * Mounts `mounts` one after the other on `target`, which must exist. When one fails, those before it
 * are detached again. A read-only bind is a bind and a remount; long overlay options are no problem.
 * @throws SystemError
 */
export function mountAll(mounts: readonly Mount[], target: string): void {
  let done = 0;
  try {
    for (const one of mounts) {
      mountOne(one, target);
      done++;
    }
  } catch (error) {
    for (; done > 0; done--) umountCall(target, MNT_DETACH);
    throw error;
  }
}

function mountOne(one: Mount, target: string): void {
  const { flags, propagation, data } = parseMountOptions(one.options);
  const text = data.join(',');
  const type = flags & MS_BIND ? null : one.type;
  if (one.type === 'overlay' && Buffer.byteLength(text) > MAX_DATA_BYTES)
    mountLongOverlay(data, flags, target);
  else
    mountRaw(
      one.source,
      target,
      type,
      flags & MS_BIND ? flags & (MS_BIND | MS_REC) : flags,
      text || undefined,
    );
  try {
    const restrictions = flags & ~(MS_BIND | MS_REC);
    if (flags & MS_BIND && restrictions) remountBind(target, restrictions);
    if (propagation) mountRaw('', target, null, propagation);
  } catch (error) {
    umountCall(target, MNT_DETACH);
    throw error;
  }
}

/** Adds flags such as MS_RDONLY to the bind mount at `target`. */
export function remountBind(target: string, flags: number): void {
  mountRaw('', target, null, MS_BIND | MS_REMOUNT | flags);
}

const FSOPEN_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const FSMOUNT_CLOEXEC = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const AT_FDCWD = -100;

/** Kernel 6.5 and newer take one lower directory at a time; older ones get short names through /proc. */
function mountLongOverlay(data: readonly string[], flags: number, target: string): void {
  const fs = fsopenCall(SYS.fsopen, 'overlay', FSOPEN_CLOEXEC);
  const taken = fs >= 0 && withFd(fs, () => mountByConfig(fs, data, flags, target));
  if (!taken) mountOverlayByFd(data, flags, target);
}

/** False when the kernel does not know `lowerdir+`. */
function mountByConfig(fs: number, data: readonly string[], flags: number, target: string): boolean {
  for (const option of data) {
    if (!option.startsWith('lowerdir=')) {
      setOption(fs, option, target);
      continue;
    }
    for (const dir of splitLower(option.slice(9))) {
      if (fsconfigCall(SYS.fsconfig, fs, FSCONFIG_SET_STRING, 'lowerdir+', dir, 0) >= 0) continue;
      const number = lastErrno();
      if (errnoName(number) === 'EINVAL') return false;
      throw new SystemError(number, 'mount', 'overlay', target);
    }
  }
  if (flags & MS_RDONLY) setOption(fs, 'ro', target);
  check(fsconfigCall(SYS.fsconfig, fs, FSCONFIG_CMD_CREATE, null, null, 0), 'mount', 'overlay', target);
  const attributes = flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
  const tree = check(fsmountCall(SYS.fsmount, fs, FSMOUNT_CLOEXEC, attributes), 'mount', 'overlay', target);
  withFd(tree, () =>
    check(
      moveMountCall(SYS.move_mount, tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH),
      'mount',
      'overlay',
      target,
    ),
  );
  return true;
}

function withFd<T>(fd: number, work: () => T): T {
  try {
    return work();
  } finally {
    closeSync(fd);
  }
}

function setOption(fs: number, option: string, target: string): void {
  const equals = option.indexOf('=');
  const set =
    equals < 0
      ? fsconfigCall(SYS.fsconfig, fs, FSCONFIG_SET_FLAG, option, null, 0)
      : fsconfigCall(
          SYS.fsconfig,
          fs,
          FSCONFIG_SET_STRING,
          option.slice(0, equals),
          option.slice(equals + 1),
          0,
        );
  check(set, 'mount', 'overlay', target);
}

/** Lower directories of an option string; `\:` stands for a colon inside a name. */
function splitLower(value: string): string[] {
  return value.split(/(?<!\\):/).map((dir) => dir.replaceAll('\\:', ':'));
}

function mountOverlayByFd(data: readonly string[], flags: number, target: string): void {
  const fds: number[] = [];
  try {
    const short = (dir: string): string => {
      const fd = openSync(dir, O_PATH | O_CLOEXEC);
      fds.push(fd);
      return `/proc/thread-self/fd/${fd}`;
    };
    const options = data.map((option) =>
      option.startsWith('lowerdir=')
        ? `lowerdir=${splitLower(option.slice(9)).map(short).join(':')}`
        : option,
    );
    mountRaw('overlay', target, 'overlay', flags, options.join(','));
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
