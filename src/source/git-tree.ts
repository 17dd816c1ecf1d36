import { setImmediate as turn } from 'node:timers/promises';
import type { Rootfs } from '../sys/rootfs.ts';
import { isDirMode, isRegularMode } from '../sys/stat.ts';

/** Entries looked at before others have a turn. */
const BATCH = 500;

interface Entry {
  readonly path: string;
  readonly directory: boolean;
}

/** All below the root, directories after what is in them. */
async function* walk(root: Rootfs, signal: AbortSignal): AsyncGenerator<Entry> {
  let count = 0;
  const pending: { readonly path: string; readonly names: string[] }[] = [
    { path: '', names: root.readdir('') },
  ];
  for (let last = pending.at(-1); last; last = pending.at(-1)) {
    if (++count % BATCH === 0) {
      await turn();
      signal.throwIfAborted();
    }
    const name = last.names.pop();
    if (name === undefined) {
      pending.pop();
      yield { path: last.path, directory: true };
      continue;
    }
    const path = last.path === '' ? name : `${last.path}/${name}`;
    if (isDirMode(root.lstat(path).mode)) pending.push({ path, names: root.readdir(path) });
    else yield { path, directory: false };
  }
}

/**
 * Files by which submodules know their repositories: no commit can hold one, and what they name is on this host.
 */
export async function* submoduleLinks(root: Rootfs, signal: AbortSignal): AsyncGenerator<string> {
  for await (const { path, directory } of walk(root, signal))
    if (!directory && (path === '.git' || path.endsWith('/.git'))) yield path;
}

/** Lets everybody write the files that are no programs. */
export async function makeWritable(root: Rootfs, signal: AbortSignal): Promise<void> {
  for await (const { path, directory } of walk(root, signal)) {
    if (directory) continue;
    const { mode } = root.lstat(path);
    if (isRegularMode(mode) && (mode & 0o111) === 0) root.chmod(path, (mode | 0o222) & 0o7777);
  }
}

/** Sets the time of everything, symlinks and the root included. */
export async function setTimes(root: Rootfs, seconds: number, signal: AbortSignal): Promise<void> {
  const time = { sec: seconds, nsec: 0 };
  for await (const { path } of walk(root, signal)) root.utimes(path === '' ? '.' : path, time, time);
}
