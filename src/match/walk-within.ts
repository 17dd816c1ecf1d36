import { realpathSync } from 'node:fs';
import { linkReader } from './follow.ts';
import {
  listDirectory,
  type NamedEntry,
  type TreeFilter,
  TreeRules,
  type WalkEntry,
  walkReader,
} from './walk.ts';

/**
 * As `walkTree`, of a tree that holds only what `own` selects of the directory: patterns and links of `filter` do not
 * reach anything else. Directories that hold nothing selected, and are not selected themselves, do not exist.
 */
export function* walkWithin(
  root: string,
  own: TreeFilter,
  filter: TreeFilter,
): Generator<WalkEntry, void, void> {
  const top = realpathSync(root);
  const links = linkReader(top);
  const visible = new Visible(top, new TreeRules(links, own));
  const tree = {
    list: (path: string) => visible.list(path),
    readdir: (path: string) => {
      const dir = path === '.' ? '' : path;
      return dir === '' || visible.holds(dir) ? visible.list(dir).map(({ name }) => name) : undefined;
    },
    readlink: (path: string) => (visible.holds(path) ? links.readlink(path) : undefined),
  };
  for (const entry of walkReader(tree, filter)) yield { ...entry, fullPath: `${top}/${entry.path}` };
}

/** What rules leave of a directory. */
class Visible {
  readonly #top: string;
  readonly #rules: TreeRules;

  constructor(top: string, rules: TreeRules) {
    this.#top = top;
    this.#rules = rules;
  }

  list(path: string): readonly NamedEntry[] {
    return this.#read(path).filter(({ name, kind }) =>
      this.#shows(path === '' ? name : `${path}/${name}`, kind),
    );
  }

  /** Whether something may stand at `path`, if it is there. */
  holds(path: string): boolean {
    return this.#rules.allows(path) || this.#mayLeadOn(path);
  }

  #shows(path: string, kind: NamedEntry['kind']): boolean {
    if (this.#rules.allows(path)) return true;
    return kind === 'dir' && this.#mayLeadOn(path) && this.list(path).length > 0;
  }

  /** Whether something below a directory that is not selected may be. */
  #mayLeadOn(path: string): boolean {
    const { include, exclude, includeParents, exceptionParents } = this.#rules;
    if (include && !include.matchesOrParentMatches(path) && includeParents && !includeParents.has(path))
      return false;
    return !(exclude?.matchesOrParentMatches(path) && exceptionParents && !exceptionParents.has(path));
  }

  #read(path: string): readonly NamedEntry[] {
    try {
      return listDirectory(path === '' ? this.#top : `${this.#top}/${path}`);
    } catch (error) {
      if (path !== '' && !this.#rules.allows(path)) return []; // nobody asked for what cannot be read
      throw error;
    }
  }
}
