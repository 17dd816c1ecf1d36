import { BuildError } from '../base/errors.ts';
import { badPattern, globMatch } from './glob.ts';
import type { PathTest } from './linear.ts';
import { PatternIndex } from './pattern-index.ts';
import { cleanPath, dirPath } from './paths.ts';
import { ignoreRegExp } from './regexp.ts';

export type PatternKind = 'exact' | 'prefix' | 'suffix' | 'regexp' | 'bad';

/** One line of a pattern list, cleaned. */
export interface Pattern {
  /** Without the `!`. */
  readonly text: string;
  readonly exclusion: boolean;
  readonly kind: PatternKind;
  /** Of kind `regexp`. */
  readonly regexp: PathTest | undefined;
}

/** Which patterns matched a directory, for the paths right below it: their indexes, ascending. */
export type MatchInfo = readonly number[];

export interface MatchResult {
  readonly matched: boolean;
  readonly info: MatchInfo;
}

const NONE: MatchInfo = [];

/**
 * Patterns of .dockerignore files and of include and exclude lists (FEATURES H51, C12): `*`, `?`, `[…]` within a path
 * part, `**` across parts, `!` takes back. The last pattern that matches decides. Paths are relative, clean and
 * slash-separated. Thousands of patterns cost about as much as a few: plain ones are found by look-up.
 * @throws BuildError on a malformed pattern, from the constructor or, for some, from the first use
 */
export class PatternMatcher {
  readonly patterns: readonly Pattern[];
  /** True when a pattern starts with `!`. */
  readonly hasExclusions: boolean;
  readonly #index: PatternIndex;

  constructor(patterns: readonly string[]) {
    this.patterns = patterns.flatMap((line) => parsePattern(line) ?? []);
    this.hasExclusions = this.patterns.some((pattern) => pattern.exclusion);
    this.#index = new PatternIndex(this.patterns);
  }

  /** True when `path` or a directory above it matches. */
  matchesOrParentMatches(path: string): boolean {
    return this.#decide(this.#withParents(path), NONE).matched;
  }

  /**
   * The same for a walk from the top down: `parent` is the info of the directory that holds `path`; without it the
   * directories above are matched too. The result equals that of matchesOrParentMatches.
   */
  matchesUsingParentResults(path: string, parent?: MatchInfo): MatchResult {
    if (parent === undefined) return this.#decide(this.#withParents(path), NONE);
    return this.#decide(this.#index.find(path), parent);
  }

  /** As if only the yes or no of the directory above were known. */
  matchesUsingParentResult(path: string, parentMatched: boolean): boolean {
    let matched = parentMatched;
    for (const at of this.#index.find(path)) {
      const pattern = this.patterns[at]!;
      if (pattern.exclusion !== matched) continue;
      if (pattern.kind === 'bad') throw badPattern();
      matched = !pattern.exclusion;
    }
    return matched;
  }

  /** The oldest rule: of the directories above, only the one as deep as the pattern counts. */
  matches(path: string): boolean {
    const parents = dirPath(path).split('/');
    let matched = false;
    for (const pattern of this.patterns) {
      if (pattern.exclusion !== matched) continue;
      let match = patternMatches(pattern, path);
      const depth = pattern.text.split('/').length;
      if (!match && parents[0] !== '.' && depth <= parents.length)
        match = patternMatches(pattern, parents.slice(0, depth).join('/'));
      if (match) matched = !pattern.exclusion;
    }
    return matched;
  }

  /** Patterns that match `path` or a directory above it, ascending. */
  #withParents(path: string): readonly number[] {
    const parent = dirPath(path);
    if (parent === '.') return this.#index.find(path);
    const all = new Set(this.#index.find(path));
    const parts = parent.split('/');
    for (let depth = 1; depth <= parts.length; depth++)
      for (const at of this.#index.find(parts.slice(0, depth).join('/'))) all.add(at);
    return [...all].sort((a, b) => a - b);
  }

  /** Goes through `own` (matches of the path) and `inherited` (of its directory) in the order of the patterns. */
  #decide(own: readonly number[], inherited: MatchInfo): MatchResult {
    let matched = false;
    const info: number[] = [];
    for (let i = 0, j = 0; i < own.length || j < inherited.length; ) {
      const a = own[i] ?? Number.POSITIVE_INFINITY;
      const b = inherited[j] ?? Number.POSITIVE_INFINITY;
      const at = Math.min(a, b);
      if (a === at) i++;
      if (b === at) j++;
      const pattern = this.patterns[at]!;
      if (b !== at) {
        // A pattern that cannot change the answer is not asked, and does not count for what lies below.
        if (pattern.exclusion !== matched) continue;
        if (pattern.kind === 'bad') throw badPattern();
      }
      info.push(at);
      matched = !pattern.exclusion;
    }
    return { matched, info };
  }
}

/** One question to a list; the root itself (`.`) never matches. */
export function matchesOrParentMatches(path: string, patterns: readonly string[]): boolean {
  const matcher = new PatternMatcher(patterns);
  const clean = cleanPath(path);
  return clean !== '.' && matcher.matchesOrParentMatches(clean);
}

/** A pattern alone, without regard to directories above or to `!`. */
export function patternMatches(pattern: Pattern, path: string): boolean {
  const { text } = pattern;
  switch (pattern.kind) {
    case 'exact':
      return path === text;
    case 'prefix':
      return path.startsWith(text.slice(0, -2));
    case 'suffix':
      return path.endsWith(text.slice(2)) || (text[2] === '/' && path === text.slice(3));
    case 'regexp':
      return pattern.regexp!.test(path);
    case 'bad':
      throw badPattern();
  }
}

const SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** Without white space at both ends, in Go's sense of it. */
export function trimSpace(text: string): string {
  let from = 0;
  let end = text.length;
  while (from < end && SPACE.test(text[from]!)) from++;
  while (end > from && SPACE.test(text[end - 1]!)) end--;
  return text.slice(from, end);
}

function parsePattern(line: string): Pattern | undefined {
  const trimmed = trimSpace(line);
  if (trimmed === '') return undefined;
  let text = cleanPath(trimmed);
  const exclusion = text.startsWith('!');
  if (exclusion) {
    if (text.length === 1) throw new BuildError('illegal exclusion pattern: "!"');
    text = text.slice(1);
  }
  globMatch(text, '.');
  return { text, exclusion, ...compilePattern(text) };
}

/** `|`, `{` and `}` are not in it: they have always worked as in regular expressions once there is a wildcard. */
const QUOTED = new Set('.+()$');

function compilePattern(text: string): { kind: PatternKind; regexp: PathTest | undefined } {
  const chars = Array.from(text);
  let kind: PatternKind = 'exact';
  let source = '^';
  for (let i = 0, step = 0; i < chars.length; step++) {
    const char = chars[i++]!;
    if (char === '*' && chars[i] === '*') {
      i++;
      if (chars[i] === '/') i++;
      if (i < chars.length) {
        source += '(.*/)?';
        kind = 'regexp';
      } else if (kind === 'exact') kind = 'prefix';
      else {
        source += '.*';
        kind = 'regexp';
      }
      if (step === 0) kind = 'suffix';
    } else if (char === '*' || char === '?') {
      source += char === '*' ? '[^/]*' : '[^/]';
      kind = 'regexp';
    } else if (char === '\\') {
      if (i < chars.length) {
        source += `\\${chars[i++]}`;
        kind = 'regexp';
      } else source += '\\';
    } else {
      if (char === '[' || char === ']') kind = 'regexp';
      source += QUOTED.has(char) ? `\\${char}` : char;
    }
  }
  if (kind !== 'regexp') return { kind, regexp: undefined };
  try {
    return { kind, regexp: ignoreRegExp(`${source}$`) };
  } catch {
    // Reported when the pattern is first asked, which may be never.
    return { kind: 'bad', regexp: undefined };
  }
}
