import { BuildError } from '../base/errors.ts';

/** One element of a shell pattern (POSIX 2.13 without brackets): a character, `?` or `*`. */
type Element = { readonly kind: 'char'; readonly char: string } | { readonly kind: 'one' | 'many' };

const NONE = -1;

/** A compiled `*`/`?` pattern. Wildcards do not match a line feed. */
export interface Pattern {
  readonly elements: readonly Element[];
  /** Whether `*` takes as much as it can. */
  readonly greedy: boolean;
}

/** @throws {BuildError} for a backslash in front of a character that needs none. */
export function compilePattern(text: string, greedy: boolean): Pattern {
  const characters = [...text];
  const elements: Element[] = [];
  for (let i = 0; i < characters.length; i++) {
    const char = characters[i]!;
    if (char === '*') elements.push({ kind: 'many' });
    else if (char === '?') elements.push({ kind: 'one' });
    else if (char !== '\\') elements.push({ kind: 'char', char });
    else {
      const next = characters[++i];
      // `\}` and `\/` are the operator's own escapes.
      if (next !== undefined && '*?\\}/'.includes(next)) elements.push({ kind: 'char', char: next });
      else throw new BuildError(`invalid escape '\\${next ?? '\ufffd'}'`);
    }
  }
  return { elements, greedy };
}

/**
 * For every start index the end of the preferred match, or -1. Preferred means what a backtracking
 * matcher would find first; the table makes that polynomial for every input.
 */
function matchEnds(pattern: Pattern, text: readonly string[]): Int32Array {
  let next = Int32Array.from({ length: text.length + 1 }, (_, i) => i);
  for (const element of pattern.elements.toReversed()) {
    const ends = new Int32Array(text.length + 1).fill(NONE);
    for (let i = text.length; i >= 0; i--)
      ends[i] = matchElement(element, pattern.greedy, text, i, next, ends);
    next = ends;
  }
  return next;
}

function matchElement(
  element: Element,
  greedy: boolean,
  text: readonly string[],
  at: number,
  next: Int32Array,
  ends: Int32Array,
): number {
  const char = text[at];
  if (element.kind === 'char') return char === element.char ? next[at + 1]! : NONE;
  const wild = char !== undefined && char !== '\n';
  if (element.kind === 'one') return wild ? next[at + 1]! : NONE;
  const more = wild ? ends[at + 1]! : NONE;
  const stop = next[at]!;
  if (greedy) return more === NONE ? stop : more;
  return stop === NONE ? more : stop;
}

/** `${value#pattern}` */
export function trimPrefix(value: string, pattern: string, greedy: boolean): string {
  const text = [...value];
  const end = matchEnds(compilePattern(pattern, greedy), text)[0]!;
  return end === NONE ? value : text.slice(end).join('');
}

export function reverse(text: string): string {
  return [...text].reverse().join('');
}

/** The pattern from behind; a backslash stays in front of what it escapes. */
export function reversePattern(pattern: string): string {
  const parts: string[] = [];
  const characters = [...pattern];
  for (let i = 0; i < characters.length; i++) {
    const pair = characters[i] === '\\' && i + 1 < characters.length;
    parts.push(pair ? `\\${characters[++i]}` : characters[i]!);
  }
  return parts.reverse().join('');
}

/** `${value/pattern/replacement}`, or of every match with `all`. */
export function replacePattern(value: string, pattern: string, replacement: string, all: boolean): string {
  const text = [...value];
  const ends = matchEnds(compilePattern(pattern, true), text);
  let out = '';
  let copied = 0;
  let previousEnd = NONE;
  for (let start = 0; start <= text.length; ) {
    const end = ends[start]!;
    // An empty match directly behind another match does not count.
    if (end === NONE || (end === start && start === previousEnd)) {
      start++;
      continue;
    }
    out += text.slice(copied, start).join('');
    if (!all) return out + replacement + text.slice(end).join('');
    out += expandTemplate(replacement, text.slice(start, end).join(''));
    copied = previousEnd = end;
    start = end > start ? end : start + 1;
  }
  return out + text.slice(copied).join('');
}

/** References of the replacement in replace-all: `$0` is the match, other groups do not exist. */
function expandTemplate(template: string, match: string): string {
  return template.replace(/\$(?:\$|\{([\p{L}\p{Nd}_]+)\}|([\p{L}\p{Nd}_]+))/gu, (whole, braced, bare) => {
    if (whole === '$$') return '$';
    return /^0+$/.test(braced ?? bare) ? match : '';
  });
}
