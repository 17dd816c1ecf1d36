import { mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { errno } from './errors.ts';

/**
 * Makes a directory and those above it. For paths that users name: Node's own recursive mkdir never returns
 * where the file system has no such entries to make, as in /proc. @throws the error of the first that fails
 */
export function makeDirs(path: string, mode = 0o777): void {
  const missing: string[] = [];
  for (let at = resolve(path); !madeOrThere(at, mode); at = dirname(at)) missing.push(at);
  for (const dir of missing.reverse()) makeOne(dir, mode);
}

/** False when its parent is missing, too. */
function madeOrThere(dir: string, mode: number): boolean {
  try {
    makeOne(dir, mode);
    return true;
  } catch (error) {
    if (errno(error) !== 'ENOENT' || dirname(dir) === dir) throw error;
    return false;
  }
}

function makeOne(dir: string, mode: number): void {
  try {
    mkdirSync(dir, { mode });
  } catch (error) {
    // Root directories answer in other ways than EEXIST, too.
    if (errno(error) === 'ENOENT' || !statSync(dir, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
}
