import { goQuote } from '../base/go-quote.ts';

/**
 * Text rules that Dockerfiles inherited from Go's standard library. They differ from JavaScript's in
 * small ways (which characters are blank, how a string is quoted), and files depend on them.
 */

/** Characters that count as blank (Unicode White_Space). */
const SPACE = /[\t-\r\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;
const LEADING = new RegExp(`^${SPACE.source}+`);

export function isSpace(character: string): boolean {
  return SPACE.test(character);
}

export function trimStart(text: string): string {
  return text.replace(LEADING, '');
}

export function trim(text: string): string {
  const start = trimStart(text);
  // Not a regular expression: one that is anchored at the end only is quadratic on long inner blanks.
  let end = start.length;
  while (end > 0 && SPACE.test(start[end - 1]!)) end--;
  return start.slice(0, end);
}

const ASCII = /^[\0-\x7f]*$/;

/**
 * Small letters, character by character: one never becomes two, and its place in the word does not matter. Bytes that
 * are no text become U+FFFD.
 */
export function lower(text: string): string {
  if (ASCII.test(text)) return text.toLowerCase();
  return Array.from(text.toWellFormed(), (character) => single(character.toLowerCase())).join('');
}

/** Capital letters, in the same way; one that has none stays. */
export function upper(text: string): string {
  if (ASCII.test(text)) return text.toUpperCase();
  return Array.from(text.toWellFormed(), (character) => {
    const capital = character.toUpperCase();
    return single(capital) === capital ? capital : character;
  }).join('');
}

/** The first character: the one long form of a small letter is an i with a dot of its own. */
function single(text: string): string {
  return String.fromCodePoint(text.codePointAt(0) ?? 0);
}

/** Splits at runs of ASCII blanks; like Go's regexp split it keeps an empty first or last part. */
export function splitBlanks(text: string, limit?: 2): string[] {
  if (limit === undefined) return text.split(/[\t\v\f\r ]+/);
  const match = /[\t\v\f\r ]+/.exec(text);
  if (!match) return [text];
  return [text.slice(0, match.index), text.slice(match.index + match[0].length)];
}

/** First index of `separator` splits; the second part is undefined when it does not occur. */
export function cut(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}

/** Double-quoted form as used in error and history texts. */
export const quote = goQuote;

/** `["a" "b"]` */
export function quoteList(list: readonly string[]): string {
  return `[${list.map(quote).join(' ')}]`;
}

/** The spellings of a truth value that flags and options accept; undefined for anything else. */
export function parseBool(text: string): boolean | undefined {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  return undefined;
}

/** An unsigned number of at most `bits` bits, digits only; undefined for anything else. */
export function parseUint(text: string, base: 8 | 10, bits: 32 | 64 = 32): bigint | undefined {
  if (!(base === 8 ? /^[0-7]+$/ : /^[0-9]+$/).test(text)) return undefined;
  const value = base === 8 ? BigInt(`0o${text}`) : BigInt(text);
  return value < 1n << BigInt(bits) ? value : undefined;
}

/** What is wrong with text that should be such a number: it is none, or its size is more than `bits` bits. */
export function intProblem(text: string, bits: 32 | 64 = 64): string {
  const digits = /^[+-]?([0-9]*)/.exec(text)?.[1] ?? '';
  const isNumber = digits !== '' && text.replace(/^[+-]/, '') === digits;
  // Reading stops at a number that is too long, whatever follows it.
  const tooLong = BigInt(digits || '0') >= 1n << BigInt(bits);
  const problem = isNumber || tooLong ? 'value out of range' : 'invalid syntax';
  return `strconv.ParseInt: parsing ${quote(text)}: ${problem}`;
}

/** A plain signed decimal of at most 64 bits; undefined for anything else. */
export function parseInt64(text: string): bigint | undefined {
  if (!/^[+-]?[0-9]+$/.test(text)) return undefined;
  const value = BigInt(text.replace(/^\+/, ''));
  return value >= -(1n << 63n) && value < 1n << 63n ? value : undefined;
}
