import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError, Code, errno, notFound } from '../base/errors.ts';
import { globMatch, hasWildcards } from '../match/glob.ts';
import { type MatchInfo, PatternMatcher } from '../match/patterns.ts';
import type { JobContext, Jobs } from '../pool/types.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { type FileStat, isDirMode, isSymlinkMode } from '../sys/stat.ts';
import { byBytes, entryDigest } from './contenthash-header.ts';

const MAX_LINKS = 255;

/** What of a tree counts. Paths are absolute in the tree. */
export interface ContentSelector {
  readonly path: string;
  readonly wildcard: boolean;
  /** Follow a symlink that is the path itself. */
  readonly followLinks: boolean;
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  readonly requiredPaths: readonly string[];
}

export interface ContentHashInput {
  readonly dir: string;
  readonly selectors: readonly ContentSelector[];
}

/** Digests of selected content (FEATURES F15-F18), one per selector. Reads files: belongs in a worker. */
function contentHash(input: ContentHashInput, context: JobContext): Digest[] {
  using root = openRootfs(input.dir);
  const tree = new HashTree(root, () => context.throwIfAborted());
  return input.selectors.map((selector) => tree.checksum(selector));
}

export const contentHashJobs = { contentHash } satisfies Jobs;
export type ContentHashJobs = typeof contentHashJobs;

/** One digest for several (FEATURES E14). */
export function joinContentDigests(digests: readonly Digest[]): Digest {
  return digestOf(digests.join('\0'));
}

interface Entry {
  readonly stat: FileStat;
  /** Of the entry itself; of a directory without what is in it. */
  own?: Digest;
  /** Of a directory with everything in it. */
  whole?: Digest;
  names?: readonly string[];
}

interface Included {
  /** As the selector spells it. */
  readonly path: string;
  readonly digest: Digest;
}

/** A directory on the way to what the walk is at. */
interface Parent {
  readonly path: string;
  readonly digest: () => Digest;
  readonly includeInfo: MatchInfo | undefined;
  readonly excludeInfo: MatchInfo | undefined;
  included: boolean;
}

interface Walk {
  readonly selector: ContentSelector;
  readonly include: PatternMatcher | undefined;
  readonly exclude: PatternMatcher | undefined;
  /** Part of a path that patterns do not see. */
  readonly base: string;
  readonly skipHeader: boolean;
  readonly included: Included[];
}

class HashTree {
  readonly #root: Rootfs;
  readonly #throwIfAborted: () => void;
  readonly #entries = new Map<string, Entry | undefined>();

  constructor(root: Rootfs, throwIfAborted: () => void) {
    this.#root = root;
    this.#throwIfAborted = throwIfAborted;
  }

  checksum(selector: ContentSelector): Digest {
    const { includePatterns, excludePatterns } = selector;
    if (!selector.wildcard && includePatterns.length === 0 && excludePatterns.length === 0) {
      return this.#wholeDigest(this.#follow(selector.path, selector.followLinks));
    }
    const { prefix, included } = this.#select(selector);
    for (const required of selector.requiredPaths) {
      if (!included.some(({ path }) => path.startsWith(required)))
        throw notFound(`${quote(required)}: not found`);
    }
    const [first] = included;
    if (!first) return digestOf('');
    if (included.length === 1 && posix.basename(keyPath(selector.path)) === posix.basename(first.path)) {
      return first.digest;
    }
    const sum = createHash('sha256');
    for (const { path, digest } of included) {
      const key = path.slice(path.startsWith(prefix) ? prefix.length : 0).replaceAll('/', '\0');
      sum.update(key === '' ? '\0' : key).update(digest);
    }
    return `sha256:${sum.digest('hex')}` as Digest;
  }

  #select(selector: ContentSelector): { prefix: string; included: readonly Included[] } {
    const path = keyPath(selector.path);
    const matcher = (patterns: readonly string[]) =>
      patterns.length > 0 ? new PatternMatcher(patterns) : undefined;
    const shared = {
      selector,
      include: matcher(selector.includePatterns),
      exclude: matcher(selector.excludePatterns),
      included: [] as Included[],
    };
    const skipHeader = selector.path.endsWith('/');
    if (!selector.wildcard) {
      const at = this.#follow(path, false);
      if (this.#entry(at)) this.#walk(at, path, undefined, { ...shared, base: path, skipHeader });
      return { prefix: path, included: shared.included };
    }
    const parts = path.split('/').slice(1);
    const first = parts.findIndex(hasWildcards);
    const literal = first < 0 ? parts : parts.slice(0, first);
    const pattern = first < 0 ? [] : parts.slice(first);
    const prefix = literal.length === 0 ? '' : `/${literal.join('/')}`;
    const start = this.#follow(prefix, pattern.length > 0);
    for (const [at, shown] of this.#matches(start, prefix, pattern)) {
      this.#walk(at, shown, undefined, { ...shared, base: shown, skipHeader: skipHeader && shown === path });
    }
    return { prefix, included: shared.included };
  }

  /** Real and shown paths below `at` that match the pattern parts, in order. */
  #matches(at: string, shown: string, pattern: readonly string[]): (readonly [string, string])[] {
    const entry = this.#entry(at);
    if (!entry) return [];
    const [part, ...rest] = pattern;
    if (part === undefined) return [[at, shown]];
    if (!isDirMode(entry.stat.mode)) return [];
    return this.#names(at, entry)
      .filter((name) => globMatch(part, name))
      .flatMap((name) => this.#matches(`${at}/${name}`, `${shown}/${name}`, rest));
  }

  #walk(at: string, shown: string, parents: readonly Parent[] | undefined, walk: Walk): void {
    this.#throwIfAborted();
    const entry = this.#entry(at)!;
    const isDir = isDirMode(entry.stat.mode);
    const above = parents ?? [];
    const wanted = this.#wanted(shown, above.at(-1), walk);
    const take = (): void => {
      for (const parent of above) {
        if (!parent.included) walk.included.push({ path: parent.path, digest: parent.digest() });
        parent.included = true;
      }
      walk.included.push({ path: shown, digest: this.#shownDigest(at, entry, above.length === 0, walk) });
    };
    const skipped = isDir && shown === walk.base && walk.skipHeader;
    if (wanted.matched && !skipped) take();
    if (!isDir) return;
    const own: Parent = {
      path: shown,
      digest: () => this.#ownDigest(at, entry),
      includeInfo: wanted.includeInfo,
      excludeInfo: wanted.excludeInfo,
      included: wanted.matched,
    };
    const below = skipped ? above : [...above, own];
    for (const name of this.#names(at, entry)) this.#walk(`${at}/${name}`, `${shown}/${name}`, below, walk);
  }

  #wanted(shown: string, parent: Parent | undefined, walk: Walk) {
    const candidate = shown.slice(walk.base.length + 1);
    const included = walk.include?.matchesUsingParentResults(candidate, parent?.includeInfo ?? []);
    if (included && !included.matched) {
      return { matched: false, includeInfo: included.info, excludeInfo: undefined };
    }
    const excluded = walk.exclude?.matchesUsingParentResults(candidate, parent?.excludeInfo ?? []);
    return { matched: !excluded?.matched, includeInfo: included?.info, excludeInfo: excluded?.info };
  }

  /** A symlink right at the top may stand for what it points to. */
  #shownDigest(at: string, entry: Entry, top: boolean, walk: Walk): Digest {
    if (top && walk.selector.followLinks && isSymlinkMode(entry.stat.mode)) {
      return this.#wholeDigest(this.#follow(at, true));
    }
    return this.#ownDigest(at, entry);
  }

  #wholeDigest(path: string): Digest {
    const entry = this.#entry(path);
    if (!entry) throw notFound(`${quote(path === '' ? '/' : path)}: not found`);
    if (!isDirMode(entry.stat.mode)) return this.#ownDigest(path, entry);
    if (entry.whole) return entry.whole;
    this.#throwIfAborted();
    const sum = createHash('sha256').update('\0').update(this.#ownDigest(path, entry));
    for (const name of this.#names(path, entry)) {
      sum.update(`\0${name}`).update(this.#wholeDigest(`${path}/${name}`));
    }
    entry.whole = `sha256:${sum.digest('hex')}` as Digest;
    return entry.whole;
  }

  #ownDigest(path: string, entry: Entry): Digest {
    entry.own ??= entryDigest(this.#root, path === '' ? '/' : path, entry.stat, this.#throwIfAborted);
    return entry.own;
  }

  #names(path: string, entry: Entry): readonly string[] {
    entry.names ??= this.#root.readdir(path === '' ? '/' : path).sort(byBytes);
    return entry.names;
  }

  /** '' is the root; undefined when there is nothing. */
  #entry(path: string): Entry | undefined {
    if (this.#entries.has(path)) return this.#entries.get(path);
    const stat = this.#lstat(path === '' ? '/' : path);
    const entry = stat && { stat };
    this.#entries.set(path, entry);
    return entry;
  }

  #lstat(path: string): FileStat | undefined {
    try {
      return this.#root.lstatOrNone(path);
    } catch (error) {
      if (errno(error) === 'ENAMETOOLONG') return undefined;
      throw error;
    }
  }

  /** Path with symlinks followed inside the tree (FEATURES F18); missing parts stay as they are. */
  #follow(path: string, last: boolean): string {
    let rest = path.split('/').filter((part) => part !== '' && part !== '.');
    let at = '';
    for (let links = 0; rest.length > 0; ) {
      const name = rest.shift()!;
      if (name === '..') {
        at = at.slice(0, Math.max(0, at.lastIndexOf('/')));
        continue;
      }
      const next = `${at}/${name}`;
      const entry = this.#entry(next);
      if (!entry || !isSymlinkMode(entry.stat.mode) || (rest.length === 0 && !last)) {
        at = next;
        continue;
      }
      if (++links > MAX_LINKS) throw new BuildError('too many symlinks', { code: Code.failedPrecondition });
      const target = this.#root.readlink(next);
      if (target.startsWith('/')) at = '';
      rest = [...target.split('/').filter((part) => part !== '' && part !== '.'), ...rest];
    }
    return at;
  }
}

function keyPath(path: string): string {
  const clean = posix.join('/', path);
  return clean === '/' ? '' : clean.replace(/\/$/, '');
}

function quote(path: string): string {
  return JSON.stringify(path);
}
