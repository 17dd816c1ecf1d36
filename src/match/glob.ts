import { BuildError } from '../base/errors.ts';

/** The error of a malformed pattern. */
export function badPattern(): BuildError {
  return new BuildError('syntax error in pattern');
}

/** True when `name` holds `*`, `?` or `[` that is not escaped. */
export function hasWildcards(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const ch = name[i];
    if (ch === '\\') i++;
    else if (ch === '*' || ch === '?' || ch === '[') return true;
  }
  return false;
}

/**
 * Shell pattern on a whole path: `*` and `?` stop at slashes, `[a-z]`, `[^a]`, `\\x`. The rules, and when a malformed
 * pattern is noticed (not behind the first piece that fails), are those of Go's path/filepath.Match on Unix.
 * @throws BuildError `syntax error in pattern`
 */
export function globMatch(pattern: string, name: string): boolean {
  const chars = Array.from(name);
  let from = 0;
  for (let rest = pattern; rest !== ''; ) {
    const piece = nextPiece(rest);
    rest = piece.rest;
    if (piece.star && piece.text === '') return !chars.includes('/', from);
    const tokens = compile(piece.text);
    let end = -1;
    for (let at = from; ; at++) {
      const reached = matchAt(tokens, chars, at);
      if (reached >= 0 && (rest !== '' || reached === chars.length)) {
        end = reached;
        break;
      }
      if (!piece.star || at >= chars.length || chars[at] === '/') return false;
    }
    from = end;
  }
  return from === chars.length;
}

/** What stands before the next star that is not in brackets, and whether a star stood before it. */
function nextPiece(pattern: string): { star: boolean; text: string; rest: string } {
  let start = 0;
  while (pattern[start] === '*') start++;
  let inSet = false;
  let at = start;
  for (; at < pattern.length; at++) {
    const char = pattern[at];
    if (char === '\\') at++;
    else if (char === '[') inSet = true;
    else if (char === ']') inSet = false;
    else if (char === '*' && !inSet) break;
  }
  return { star: start > 0, text: pattern.slice(start, at), rest: pattern.slice(at) };
}

type Token =
  | { readonly kind: 'any' }
  | { readonly kind: 'char'; readonly char: string }
  | {
      readonly kind: 'set';
      readonly negated: boolean;
      readonly ranges: readonly (readonly [number, number])[];
    };

function compile(piece: string): Token[] {
  const chars = Array.from(piece);
  const tokens: Token[] = [];
  for (let i = 0; i < chars.length; i++) {
    const char = chars[i]!;
    if (char === '?') tokens.push({ kind: 'any' });
    else if (char === '[') {
      const { token, end } = compileSet(chars, i + 1);
      tokens.push(token);
      i = end;
    } else if (char === '\\') {
      if (++i >= chars.length) throw badPattern();
      tokens.push({ kind: 'char', char: chars[i]! });
    } else tokens.push({ kind: 'char', char });
  }
  return tokens;
}

/** `at` is behind the bracket; `end` is the closing one. A set has at least one member. */
function compileSet(chars: readonly string[], at: number): { token: Token; end: number } {
  const negated = chars[at] === '^';
  if (negated) at++;
  const ranges: [number, number][] = [];
  const member = (): number => {
    let char = chars[at];
    if (char === undefined || char === '-' || char === ']') throw badPattern();
    if (char === '\\') char = chars[++at];
    // A member that ends the pattern has no closing bracket behind it.
    if (char === undefined || ++at >= chars.length) throw badPattern();
    return char.codePointAt(0)!;
  };
  for (;;) {
    if (chars[at] === ']' && ranges.length > 0) return { token: { kind: 'set', negated, ranges }, end: at };
    const low = member();
    let high = low;
    if (chars[at] === '-') {
      at++;
      high = member();
    }
    ranges.push([low, high]);
  }
}

/** Index behind the match, or -1. */
function matchAt(tokens: readonly Token[], name: readonly string[], from: number): number {
  if (name.length - from < tokens.length) return -1;
  for (let i = 0; i < tokens.length; i++) if (!accepts(tokens[i]!, name[from + i]!)) return -1;
  return from + tokens.length;
}

function accepts(token: Token, char: string): boolean {
  if (token.kind === 'char') return token.char === char;
  if (char === '/' && token.kind !== 'set') return false;
  if (token.kind !== 'set') return true;
  const code = char.codePointAt(0)!;
  return token.ranges.some(([low, high]) => low <= code && code <= high) !== token.negated;
}
