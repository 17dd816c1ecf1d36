import { type Dirent, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { errno } from '../base/errors.ts';
import { globMatch, hasWildcards } from './glob.ts';
import { basePath, cleanPath, dirPath, joinPath } from './paths.ts';

/** Look-ups that following links needs, with paths relative to the tree. */
export interface LinkReader {
  /** Target of the symlink `path`; undefined when it is something else or nothing. */
  readlink(path: string): string | undefined;
  /** Names in a directory (`.` for the top); undefined when there is none. */
  readdir(path: string): readonly string[] | undefined;
}

/**
 * Paths that must be sent so that each of `paths` can be reached: the path itself, every symlink on the way and what
 * it points to, inside the tree. The last part of a step may hold wildcards. Sorted, without those that lie
 * below another; undefined when the whole tree is wanted (FEATURES C6 followpaths).
 */
export function followLinks(reader: LinkReader, paths: readonly string[]): string[] | undefined {
  const resolved = new Set<string>();
  const pending = [...paths].reverse();
  for (let next = pending.pop(); next !== undefined; next = pending.pop())
    pending.push(...followOne(reader, next, resolved).reverse());
  const sorted = [...resolved].map((path) => Buffer.from(path)).sort(Buffer.compare);
  return withoutNested(sorted.map((path) => path.toString()));
}

/** Walks down one path; returns where the first link on it leads. */
function followOne(reader: LinkReader, path: string, resolved: Set<string>): string[] {
  let rest = joinPath('.', path);
  let current = '.';
  for (;;) {
    const slash = rest.indexOf('/');
    current = joinPath(current, slash < 0 ? rest : rest.slice(0, slash));
    const targets = readLinks(reader, current, true);
    rest = slash < 0 ? '' : rest.slice(slash + 1);
    if (rest !== '' && targets.length === 0) continue;
    if (resolved.has(current)) return [];
    resolved.add(current);
    return targets.map((target) => joinPath(target, rest));
  }
}

function readLinks(reader: LinkReader, path: string, wildcards: boolean): string[] {
  const name = basePath(path);
  if (wildcards && hasWildcards(name)) {
    const dir = dirPath(path);
    return (reader.readdir(dir) ?? []).flatMap((entry) =>
      matchesQuietly(name, entry) ? readLinks(reader, joinPath(dir, entry), false) : [],
    );
  }
  if (path === '.' || path === '..' || path.startsWith('../')) return [];
  const link = reader.readlink(path);
  if (link === undefined) return [];
  const target = cleanPath(link);
  return [target.startsWith('/') ? target : joinPath('/', joinPath(dirPath(path), target))];
}

function matchesQuietly(pattern: string, name: string): boolean {
  try {
    return globMatch(pattern, name);
  } catch {
    // A malformed pattern is the name of no link; the matcher reports it later.
    return false;
  }
}

/** Drops paths below the one before them. undefined when the list holds the top itself. */
export function withoutNested(paths: readonly string[]): string[] | undefined {
  const kept: string[] = [];
  let last = '';
  for (const path of paths) {
    if (path === '.') return undefined;
    if (path.startsWith(`${last}/`)) continue;
    kept.push(path);
    last = path;
  }
  return kept;
}

/** Reads links of the tree at `root`, a directory of the user's own. */
export function linkReader(root: string): LinkReader {
  const at = (path: string): string => `${root}/${path}`;
  return {
    readlink: (path) =>
      orNone(() => (lstatSync(at(path)).isSymbolicLink() ? readlinkSync(at(path)) : undefined)),
    readdir: (path) =>
      orNone(() => {
        if (path !== '.' && !lstatSync(at(path)).isDirectory()) return undefined;
        return readdirSync(at(path), { withFileTypes: true }).map((entry: Dirent) => entry.name);
      }),
  };
}

function orNone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const code = errno(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
