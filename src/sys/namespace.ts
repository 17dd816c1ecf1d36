import { closeSync, mkdirSync, openSync, readdirSync, readlinkSync, symlinkSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { cfunc, check } from './ffi.ts';
import {
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REC,
  MS_SLAVE,
  mountRaw,
  remountBind,
} from './mount.ts';
import { readMountInfo } from './mountinfo.ts';
import { O_CLOEXEC, O_PATH } from './rootdirs.ts';

export const CLONE_NEWNS = 0x0002_0000;
export const CLONE_NEWNET = 0x4000_0000;

const CGROUP_DIR = '/sys/fs/cgroup';
const MARKER = 'BUILDKIT_TS_MOUNT_NAMESPACE';
/** More than libuv's usual four, so that every thread of the pool answers. */
const PROBES = 32;

const unshareCall = cfunc<[number]>('unshare', 'int', ['int']);

/** unshare(2): concerns the calling thread only. @throws SystemError */
export function unshare(flags: number): void {
  check(unshareCall(flags), 'unshare');
}

export interface NamespaceOptions {
  readonly argv: readonly string[];
  readonly execArgv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Puts the process into a mount namespace of its own, where mounts of the host still arrive and none of
 * ours leave, and hides the second cgroup hierarchy of a hybrid host, which crun refuses. The first thing
 * a daemon does: threads that exist already stay outside. Should libuv's pool be among them, the program
 * is started again in the namespace (same pid). @throws SystemError EPERM without the privilege
 */
export async function enterMountNamespace(options: NamespaceOptions): Promise<void> {
  if (!isMainThread) throw new Error('enterMountNamespace: main thread only');
  const entered = options.env[MARKER] === String(process.pid);
  if (!entered) {
    unshare(CLONE_NEWNS);
    mountRaw('', '/', null, MS_REC | MS_SLAVE);
    hideUnifiedCgroup();
  }
  if (await poolSharesNamespace()) return;
  if (entered) throw new Error('enterMountNamespace: threads of the pool are in another mount namespace');
  const env: Record<string, string> = { [MARKER]: String(process.pid) };
  for (const [name, value] of Object.entries(options.env)) if (value !== undefined) env[name] = value;
  process.execve!(process.execPath, [process.execPath, ...options.execArgv, ...options.argv.slice(1)], env);
}

/** True when async file calls see the mounts that this thread sees. */
export async function poolSharesNamespace(): Promise<boolean> {
  const own = readlinkSync('/proc/thread-self/ns/mnt');
  const probes = Array.from({ length: PROBES }, () => readlink('/proc/thread-self/ns/mnt'));
  return (await Promise.all(probes)).every((seen) => seen === own);
}

/**
 * Covers /sys/fs/cgroup with a view that has the first version's controllers only. Merely unmounting the
 * second hierarchy would leave its empty directory, which crun then fills with files.
 */
function hideUnifiedCgroup(): void {
  const mounts = readMountInfo().filter((m) => m.mountPoint.startsWith(`${CGROUP_DIR}/`));
  const controllers = mounts.filter((m) => m.fsType === 'cgroup');
  if (controllers.length === 0 || !mounts.some((m) => m.fsType === 'cgroup2')) return;
  const links = readdirSync(CGROUP_DIR, { withFileTypes: true }).filter((entry) => entry.isSymbolicLink());
  const targets = links.map(({ name }) => [name, readlinkSync(join(CGROUP_DIR, name))] as const);
  const open = controllers.map((m) => [m.mountPoint, openSync(m.mountPoint, O_PATH | O_CLOEXEC)] as const);
  try {
    mountRaw('tmpfs', CGROUP_DIR, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, 'mode=755,size=64k');
    for (const [mountPoint, fd] of open) {
      mkdirSync(mountPoint, { recursive: true });
      mountRaw(`/proc/thread-self/fd/${fd}`, mountPoint, null, MS_BIND);
    }
    for (const [name, target] of targets) symlinkSync(target, join(CGROUP_DIR, name));
    remountBind(CGROUP_DIR, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
  } finally {
    for (const [, fd] of open) closeSync(fd);
  }
}
