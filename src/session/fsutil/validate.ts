import { BuildError, Code } from '../../base/errors.ts';
import { cleanPath } from '../../match/paths.ts';
import { comparePaths, type FsStat, isDir, isSymlink } from './stat.ts';

function refuse(what: string, path: string): BuildError {
  return new BuildError(`${what} ${path}: invalid argument`, { code: Code.invalidArgument });
}

/**
 * Holds a received list to its rules (FEATURES C10, C11): clean relative paths, in order, each in a directory
 * that was listed, hard links only to files listed before.
 */
export class TreeValidator {
  /** Directories on the way to the last entry, with the last name seen in each. */
  readonly #dirs: { path: string; last: string }[] = [{ path: '', last: '' }];
  readonly #files = new Set<string>();

  /** @throws BuildError that names the path. */
  check(stat: FsStat): void {
    const { path } = stat;
    if (path.includes('\0') || path !== cleanPath(path) || path === '.') throw refuse('unclean path', path);
    if (path.startsWith('/')) throw refuse('absolute path', path);
    if (path === '..' || path.startsWith('../')) throw refuse('escape check', path);
    const slash = path.lastIndexOf('/');
    const parent = slash < 0 ? '' : path.slice(0, slash);
    const name = path.slice(slash + 1);
    let dir = this.#dirs[this.#dirs.length - 1] as { path: string; last: string };
    while (dir.path !== parent && this.#dirs.length > 1) {
      this.#dirs.pop();
      dir = this.#dirs[this.#dirs.length - 1] as { path: string; last: string };
    }
    if (dir.path !== parent || (dir.last !== '' && comparePaths(dir.last, name) >= 0)) {
      const before = dir.path === '' ? dir.last : `${dir.path}/${dir.last}`;
      throw new BuildError(`changes out of order: ${JSON.stringify(path)} ${JSON.stringify(before)}`, {
        code: Code.invalidArgument,
      });
    }
    dir.last = name;
    if (isDir(stat.mode)) this.#dirs.push({ path, last: '' });
    else this.#checkLink(stat);
  }

  #checkLink(stat: FsStat): void {
    if (isSymlink(stat.mode)) return;
    if (stat.linkname === '') this.#files.add(stat.path);
    else if (!this.#files.has(stat.linkname))
      throw new BuildError(`invalid link ${stat.path} to unknown path: ${JSON.stringify(stat.linkname)}`, {
        code: Code.invalidArgument,
      });
  }
}
