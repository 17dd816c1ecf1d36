import { posix } from 'node:path';
import { hasWildcards, globMatch } from '../match/glob.ts';
import { SystemError } from '../sys/errno.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import { isDirMode, isSymlinkMode } from '../sys/stat.ts';

const MAX_LINKS = 255;

/**
 * Path with every symlink followed inside the root, also the last one; from the first missing part on it is
 * taken as it is. Starts with `/`.
 */
export function followPath(root: Rootfs, path: string): string {
  let rest = parts(path);
  let at = '/';
  for (let links = 0; rest.length > 0; ) {
    const name = rest.shift()!;
    if (name === '..') {
      at = posix.dirname(at);
      continue;
    }
    const next = posix.join(at, name);
    const stat = root.lstatOrNone(next);
    if (!stat || !isSymlinkMode(stat.mode)) {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS) throw new SystemError('ELOOP', 'open', path);
    const target = root.readlink(next);
    if (target.startsWith('/')) at = '/';
    rest = [...parts(target), ...rest];
  }
  return at;
}

/** The same, but the last part stays what it is. */
export function followParents(root: Rootfs, path: string): string {
  const clean = posix.join('/', path);
  if (clean === '/') return '/';
  return posix.join(followPath(root, posix.dirname(clean)), posix.basename(clean));
}

/** Runs `work`; when `path` or its parent is missing, the error names the call and the path. */
export function naming<T>(syscall: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof SystemError && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      throw new SystemError(error.code, syscall, path);
    throw error;
  }
}

function parts(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

/** Paths below the root that a pattern names, sorted; a path without wildcards names itself, there or not. */
export function resolveWildcards(root: Rootfs, pattern: string, followLinks: boolean): string[] {
  const all = parts(posix.join('/', pattern));
  const first = all.findIndex(hasWildcards);
  if (first < 0) return [posix.join('/', ...all)];
  const literal = posix.join('/', ...all.slice(0, first));
  const base = followLinks ? followPath(root, literal) : followParents(root, literal);
  naming('lstat', base, () => root.lstat(base));
  return walkPattern(root, base, all.slice(first));
}

function walkPattern(root: Rootfs, dir: string, patterns: readonly string[]): string[] {
  const [pattern, ...deeper] = patterns;
  if (pattern === undefined) return [];
  const stat = root.lstatOrNone(dir);
  if (!stat || !isDirMode(stat.mode)) return [];
  const names = root
    .readdir(dir)
    .filter((name) => globMatch(pattern, name))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return names.flatMap((name) => {
    const path = posix.join(dir, name);
    return deeper.length === 0 ? [path] : walkPattern(root, path, deeper);
  });
}
