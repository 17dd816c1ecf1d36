import { readlinkSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { isMainThread } from 'node:worker_threads';
import { cfunc, check } from './ffi.ts';
import { MNT_DETACH, MS_REC, MS_SLAVE, mountRaw, umount } from './mount.ts';
import { readMountInfo } from './mountinfo.ts';

export const CLONE_NEWNS = 0x0002_0000;
export const CLONE_NEWNET = 0x4000_0000;

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

function hideUnifiedCgroup(): void {
  const mounts = readMountInfo();
  if (!mounts.some((m) => m.fsType === 'cgroup')) return;
  for (const { fsType, mountPoint } of mounts)
    if (fsType === 'cgroup2' && mountPoint !== '/sys/fs/cgroup') umount(mountPoint, MNT_DETACH);
}
