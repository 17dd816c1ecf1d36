import { BuildError } from '../base/errors.ts';
import { globMatch, hasWildcards } from '../match/glob.ts';
import { cleanPath, joinPath } from '../match/paths.ts';
import { type MatchInfo, PatternMatcher } from '../match/patterns.ts';
import { parentsOf } from '../match/walk.ts';
import { type FileStat, isDirMode } from '../sys/stat.ts';
import type { ContentSelector } from './content-selector.ts';
import type { TreeHasher } from './contenthash.ts';

/** A file, or the header of a directory, that a query selects. */
export interface Selected {
  /** As asked for: before links in the query's path. */
  readonly path: string;
  /** Where it lies in the tree. */
  readonly source: string;
  readonly stat: FileStat;
  /** When it is a symlink, what it leads to counts. */
  readonly followLinks: boolean;
}

interface Header extends Selected {
  readonly parent: Header | undefined;
  readonly include: MatchInfo | undefined;
  readonly exclude: MatchInfo | undefined;
  taken: boolean;
}

/** The paths that a query with wildcards or patterns stands for, in the order of their keys (FEATURES F17). */
export function selectPaths(
  tree: Pick<TreeHasher, 'resolve' | 'list'>,
  query: ContentSelector,
): { prefix: string; selected: readonly Selected[] } {
  const path = keyPath(query.path);
  const [fixed, rest] = query.wildcard ? splitWildcards(path) : [path, ''];
  const prefix = fixed === '/' ? '' : fixed;
  const start = tree.resolve(prefix, query.wildcard && rest !== '');
  const selection = new Selection(tree, query, path);
  if (start.stat) selection.visit(start.path, prefix, start.stat, undefined, undefined);
  return { prefix, selected: selection.selected };
}

/** The part before the first name with wildcards, and what follows. */
function splitWildcards(path: string): [string, string] {
  const parts = path.split('/');
  const first = parts.findIndex(hasWildcards);
  if (first < 0) return [path === '' ? '/' : path, ''];
  return [joinPath('/', ...parts.slice(0, first)), joinPath(...parts.slice(first))];
}

class Selection {
  readonly selected: Selected[] = [];
  readonly #tree: Pick<TreeHasher, 'list'>;
  readonly #query: ContentSelector;
  readonly #path: string;
  readonly #pathParts: readonly string[];
  readonly #withoutTop: boolean;
  readonly #include: PatternMatcher | undefined;
  readonly #exclude: PatternMatcher | undefined;
  readonly #includeParents: ReadonlySet<string> | undefined;
  readonly #exceptionParents: ReadonlySet<string> | undefined;

  constructor(tree: Pick<TreeHasher, 'list'>, query: ContentSelector, path: string) {
    this.#tree = tree;
    this.#query = query;
    this.#path = path;
    this.#pathParts = path.split('/');
    this.#withoutTop = query.path.endsWith('/');
    this.#include = matcher('include', query.includePatterns);
    this.#exclude = matcher('exclude', query.excludePatterns);
    this.#includeParents = this.#include && parentsOf(this.#include.patterns.filter((p) => !p.exclusion));
    this.#exceptionParents = this.#exclude && parentsOf(this.#exclude.patterns.filter((p) => p.exclusion));
  }

  /** `base` is the path that patterns are relative to; with wildcards, unknown until one has matched. */
  visit(
    source: string,
    path: string,
    stat: FileStat,
    parent: Header | undefined,
    base: string | undefined,
  ): void {
    const directory = isDirMode(stat.mode);
    if (!this.#query.wildcard || this.#path === '') base = this.#path;
    else if (base === undefined && globMatch(this.#path, path)) base = path;
    if (base === undefined) {
      if (directory && this.#mayMatchBelow(path)) this.#children(source, path, parent, base);
      return;
    }
    const entry = this.#judge({ source, path, stat, parent }, base);
    if (!directory) {
      if (entry.included) this.#take(entry.header);
      return;
    }
    if (this.#withoutTop && path === this.#path) {
      this.#children(source, path, parent, base);
      return;
    }
    if (entry.included) this.#take(entry.header);
    if (entry.mayHold) this.#children(source, path, entry.header, base);
  }

  #children(source: string, path: string, parent: Header | undefined, base: string | undefined): void {
    for (const { name, stat } of this.#tree.list(source))
      this.visit(`${source}/${name}`, `${path}/${name}`, stat, parent, base);
  }

  /** Whether the wildcards of the query's path can match something below the directory `path`. */
  #mayMatchBelow(path: string): boolean {
    const depth = path.split('/').length;
    if (depth >= this.#pathParts.length) return false;
    return globMatch(this.#pathParts.slice(0, depth).join('/'), path);
  }

  #judge(
    at: { source: string; path: string; stat: FileStat; parent: Header | undefined },
    base: string,
  ): { header: Header; included: boolean; mayHold: boolean } {
    const name = at.path.slice(base.length + 1);
    const include = this.#include?.matchesUsingParentResults(name, at.parent?.include);
    const wanted = include?.matched ?? true;
    // A path that is not included is not asked of the excludes, and counts as unknown below.
    const exclude = wanted ? this.#exclude?.matchesUsingParentResults(name, at.parent?.exclude) : undefined;
    const dropped = exclude?.matched ?? false;
    const header: Header = {
      ...at,
      followLinks: at.parent === undefined && this.#query.followLinks,
      include: include?.info,
      exclude: exclude?.info,
      taken: false,
    };
    const noInclude = !wanted && name !== '' && this.#includeParents?.has(name) === false;
    const noException = dropped && name !== '' && this.#exceptionParents?.has(name) === false;
    return { header, included: wanted && !dropped, mayHold: !noInclude && !noException };
  }

  /** Adds a path behind the directories on the way to it. */
  #take(header: Header): void {
    if (header.taken) return;
    if (header.parent) this.#take(header.parent);
    header.taken = true;
    this.selected.push(header);
  }
}

function matcher(what: 'include' | 'exclude', patterns: readonly string[]): PatternMatcher | undefined {
  if (patterns.length === 0) return undefined;
  try {
    return new PatternMatcher(patterns);
  } catch (error) {
    throw BuildError.wrap(error, `invalid ${what}patterns: [${patterns.join(' ')}]`);
  }
}

/** Absolute and clean; the root is the empty text. */
export function keyPath(path: string): string {
  const clean = cleanPath(joinPath('/', path));
  return clean === '/' ? '' : clean;
}
