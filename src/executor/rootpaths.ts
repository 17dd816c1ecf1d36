import { posix } from 'node:path';
import { errno } from '../base/errors.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import { isDirMode, isSymlinkMode } from '../sys/stat.ts';
import type { ContainerMount } from './types.ts';

/** As the kernel's limit would stop a walk. */
const MAX_LINKS = 255;

/**
 * The path in the root that `path` leads to, with every symlink followed as far as there is something;
 * what does not exist is kept as written.
 */
export function followInRoot(root: Rootfs, path: string): string {
  let rest = path.split('/').filter(Boolean);
  let at = '/';
  let links = 0;
  for (;;) {
    const part = rest.shift();
    if (part === undefined) return at;
    if (part === '.') continue;
    if (part === '..') {
      at = posix.dirname(at);
      continue;
    }
    const next = posix.join(at, part);
    const stat = root.lstatOrNone(next);
    if (!stat || !isSymlinkMode(stat.mode)) {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS) throw new Error('too many links');
    const target = root.readlink(next);
    if (target.startsWith('/')) at = '/';
    rest = [...target.split('/').filter(Boolean), ...rest];
  }
}

/**
 * Notes which mount points the runtime will have to create. The function it returns removes those that are
 * still empty after the run and gives their parents' times back (FEATURES G21).
 */
export function watchMountStubs(
  root: Rootfs,
  mounts: readonly ContainerMount[],
  recursive: boolean,
): () => void {
  const missing: string[] = [];
  for (const dest of ['/etc/resolv.conf', '/etc/hosts', ...mounts.map((m) => m.dest)]) {
    const path = posix.normalize(`/${dest}`);
    if (path === '/') continue;
    try {
      let at = followInRoot(root, path);
      while (!root.lstatOrNone(at)) {
        missing.push(at);
        const parent = posix.dirname(at);
        if (!recursive || parent === '/') break;
        at = parent;
      }
    } catch {
      // A loop of links: the runtime will say so.
    }
  }
  return () => {
    for (const path of missing) removeStub(root, path);
  };
}

function removeStub(root: Rootfs, path: string): void {
  const parent = posix.dirname(path);
  try {
    if (followInRoot(root, path) !== path) return;
    const stat = root.lstatOrNone(path);
    if (!stat || (isDirMode(stat.mode) ? root.readdir(path).length > 0 : stat.size > 0)) return;
    const { atimeSec, atimeNsec, mtimeSec, mtimeNsec } = root.lstat(parent);
    if (isDirMode(stat.mode)) root.rmdir(path);
    else root.unlink(path);
    root.utimes(parent, { sec: atimeSec, nsec: atimeNsec }, { sec: mtimeSec, nsec: mtimeNsec });
  } catch (error) {
    // The step made something of it, or the tree is read-only: then it stays.
    if (errno(error) === undefined) throw error;
  }
}
