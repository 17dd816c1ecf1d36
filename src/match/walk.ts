import { type Dirent, readdirSync, realpathSync, statSync } from 'node:fs';
import { BuildError, Code, errno } from '../base/errors.ts';
import { followLinks, type LinkReader, linkReader, withoutNested } from './follow.ts';
import { type MatchInfo, type Pattern, PatternMatcher } from './patterns.ts';
import { compareBytes } from './paths.ts';

/** What is sent of a tree (FEATURES C6, C12). Absent lists select everything. */
export interface TreeFilter {
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  /** Paths, with wildcards, whose links are resolved into further includes. */
  readonly followPaths?: readonly string[];
}

export type EntryKind = 'dir' | 'file' | 'symlink' | 'socket' | 'fifo' | 'block' | 'char';

export interface WalkEntry {
  /** Relative to the root, no leading slash. */
  readonly path: string;
  /** Of the file, for lstat. */
  readonly fullPath: string;
  readonly kind: EntryKind;
}

/**
 * Entries of the directory `root` that `filter` selects, parents first, each directory's names in the order of their
 * bytes, without the root itself. Directories on the way to a selected entry come right before it. What vanishes
 * meanwhile is left out, and so is an unreadable directory that is not selected. Lazy and synchronous; directories
 * in which nothing can match are not read.
 * @param from an entry to begin with, and the directories above it; those before it are passed over
 * @throws BuildError for bad patterns, system errors of readdir
 */
export function* walkTree(
  root: string,
  filter: TreeFilter = {},
  from = '',
): Generator<WalkEntry, void, void> {
  const top = realpathSync(root);
  if (!statSync(top).isDirectory())
    throw new BuildError(`stat ${root}: not a directory`, { code: Code.invalidArgument });
  const rules = new TreeRules(linkReader(top), filter);
  yield* new Walk(rules, listDirectory).dir(top, '', undefined, from);
}

/** One name in a directory. */
export interface NamedEntry {
  readonly name: string;
  readonly kind: EntryKind;
}

/** A tree that is not on disk; paths are relative to it, `''` is the top of `list`. */
export interface TreeReader extends LinkReader {
  list(path: string): readonly NamedEntry[];
}

/** The same of any tree. */
export function* walkReader(tree: TreeReader, filter: TreeFilter = {}): Generator<WalkEntry, void, void> {
  const list = (path: string): readonly NamedEntry[] => tree.list(path.replace(/^\//, ''));
  yield* new Walk(new TreeRules(tree, filter), list).dir('', '', undefined);
}

/** The decisions of a filter, apart from any file system; also answers for single paths. */
export class TreeRules {
  readonly include: PatternMatcher | undefined;
  readonly exclude: PatternMatcher | undefined;
  /** Directories in which an include may match; undefined when any may. */
  readonly includeParents: ReadonlySet<string> | undefined;
  /** Directories in which a `!` pattern of the excludes may match; undefined when any may. */
  readonly exceptionParents: ReadonlySet<string> | undefined;

  /** @param links of the tree, which are followed for `followPaths` */
  constructor(links: LinkReader, filter: TreeFilter) {
    const includes = includeList(links, filter);
    if (includes.length > 0) {
      this.include = newMatcher('include', includes);
      this.includeParents = parentsOf(this.include.patterns.filter((p) => !p.exclusion));
    }
    const excludes = filter.excludePatterns ?? [];
    if (excludes.length > 0) {
      this.exclude = newMatcher('exclude', excludes);
      this.exceptionParents = parentsOf(this.exclude.patterns.filter((p) => p.exclusion));
    }
  }

  /** True when a file may be read: its path, or a directory above it, is included and not excluded. */
  allows(path: string): boolean {
    if (this.include && !this.include.matchesOrParentMatches(path)) return false;
    return !this.exclude?.matchesOrParentMatches(path);
  }
}

function includeList(links: LinkReader, filter: TreeFilter): readonly string[] {
  const includes = filter.includePatterns ?? [];
  if (filter.followPaths === undefined) return includes;
  const targets = followLinks(links, filter.followPaths);
  if (targets === undefined) return includes;
  return withoutNested([...includes, ...targets]) ?? [];
}

function newMatcher(what: 'include' | 'exclude', patterns: readonly string[]): PatternMatcher {
  try {
    return new PatternMatcher(patterns);
  } catch (error) {
    throw BuildError.wrap(error, `invalid ${what}patterns: [${patterns.join(' ')}]`);
  }
}

/** Every directory on the way to (and at) plain patterns; undefined when one has wildcards within. */
export function parentsOf(patterns: readonly Pattern[]): ReadonlySet<string> | undefined {
  const parents = new Set<string>();
  for (const { text } of patterns) {
    const plain = text.replace(/\/\*\*$/, '').replace(/\/\*$/, '');
    if (/[*[\]?^\\]/.test(plain)) return undefined;
    for (let end = plain.length; end > 0; end = plain.lastIndexOf('/', end - 1)) {
      const dir = plain.slice(0, end);
      if (parents.has(dir)) break;
      parents.add(dir);
    }
  }
  return parents;
}

interface Dir {
  readonly entry: WalkEntry;
  readonly parent: Dir | undefined;
  readonly include: MatchInfo | undefined;
  readonly exclude: MatchInfo | undefined;
  readonly selected: boolean;
  yielded: boolean;
}

type List = (fullPath: string) => readonly NamedEntry[];

class Walk {
  readonly #rules: TreeRules;
  readonly #read: List;

  constructor(rules: TreeRules, read: List) {
    this.#rules = rules;
    this.#read = read;
  }

  *dir(
    fullPath: string,
    prefix: string,
    parent: Dir | undefined,
    from = '',
  ): Generator<WalkEntry, void, void> {
    const slash = from.indexOf('/');
    const first = slash < 0 ? from : from.slice(0, slash);
    for (const item of this.#list(fullPath, parent)) {
      const { name, kind } = item;
      if (first !== '' && compareBytes(name, first) < 0) continue;
      const entry: WalkEntry = { path: prefix + name, fullPath: `${fullPath}/${name}`, kind };
      const dir = this.#judge(entry, parent);
      if (!dir) continue;
      if (dir.selected) {
        yield* missingParents(parent);
        dir.yielded = true;
        yield entry;
      }
      const rest = slash > 0 && name === first ? from.slice(slash + 1) : '';
      if (entry.kind === 'dir') yield* this.dir(entry.fullPath, `${entry.path}/`, dir, rest);
    }
  }

  #list(fullPath: string, dir: Dir | undefined): readonly NamedEntry[] {
    try {
      return this.#read(fullPath).toSorted((a, b) => compareBytes(a.name, b.name));
    } catch (error) {
      const code = errno(error);
      if (dir && (code === 'ENOENT' || code === 'ENOTDIR')) return [];
      if (dir && !dir.selected && (code === 'EACCES' || code === 'EPERM')) return [];
      throw error;
    }
  }

  /** undefined when neither the entry nor anything below it is wanted. */
  #judge(entry: WalkEntry, parent: Dir | undefined): Dir | undefined {
    const { include, exclude, includeParents, exceptionParents } = this.#rules;
    const { path } = entry;
    const isDir = entry.kind === 'dir';
    let selected = true;
    const included = include?.matchesUsingParentResults(path, parent?.include);
    if (included && !included.matched) {
      if (!isDir || (includeParents && !includeParents.has(path))) return undefined;
      selected = false;
    }
    const excluded = exclude?.matchesUsingParentResults(path, parent?.exclude);
    if (excluded?.matched) {
      if (!isDir || (exceptionParents && !exceptionParents.has(path))) return undefined;
      selected = false;
    }
    return { entry, parent, include: included?.info, exclude: excluded?.info, selected, yielded: false };
  }
}

function* missingParents(dir: Dir | undefined): Generator<WalkEntry, void, void> {
  if (!dir || dir.yielded) return;
  yield* missingParents(dir.parent);
  dir.yielded = true;
  yield dir.entry;
}

/** Names in a directory of this machine, in no order. */
export function listDirectory(path: string): NamedEntry[] {
  return readdirSync(path, { withFileTypes: true }).map((entry) => ({
    name: entry.name,
    kind: kindOf(entry),
  }));
}

function kindOf(entry: Dirent): EntryKind {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'dir';
  if (entry.isSymbolicLink()) return 'symlink';
  if (entry.isFIFO()) return 'fifo';
  if (entry.isSocket()) return 'socket';
  return entry.isBlockDevice() ? 'block' : 'char';
}
