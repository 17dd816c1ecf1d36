import { badPattern } from './glob.ts';
import { countRepeats, linearMatcher, type PathTest } from './linear.ts';

/** With as many repeats no path takes noticeable time. */
const MAX_BACKTRACKING = 2;
/** Longer than any path. */
const MAX_ATOMS = 16_384;

/**
 * The regular expression of an ignore pattern, in JavaScript's syntax. Patterns with wildcards have always been
 * turned into RE2 expressions with their brackets and escapes copied, so that `\d` is a digit and `[*]` something
 * odd; existing ignore files rely on what matches, so RE2's reading is kept here.
 */
export function ignoreRegExp(source: string): PathTest {
  const atoms = re2Atoms(source);
  if (atoms.length > MAX_ATOMS) throw badPattern();
  let regexp: RegExp;
  try {
    regexp = new RegExp(atoms.join(''), 'u');
  } catch {
    throw badPattern();
  }
  if (countRepeats(atoms) <= MAX_BACKTRACKING) return regexp;
  const linear = linearMatcher(atoms);
  // Nobody writes such a thing but to keep the daemon busy.
  if (!linear) throw badPattern();
  return linear;
}

/** The parts of an RE2 expression in JavaScript's syntax: characters, sets, assertions, operators, brackets. */
export function re2Atoms(source: string): string[] {
  return new Translator(source).all();
}

const MAX_REPEAT = 1000;
const MAX_COUNT_LENGTH = 32;
const CLASSES: Readonly<Record<string, string>> = {
  d: '0-9',
  s: '\\t\\n\\f\\r ',
  w: '0-9A-Za-z_',
};
const POSIX_CLASSES: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\u{0}-\\u{7f}',
  blank: '\\t ',
  cntrl: '\\u{0}-\\u{1f}\\u{7f}',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`\\{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};
const CONTROLS: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11 };

function literal(code: number): string {
  return `\\u{${code.toString(16)}}`;
}

class Translator {
  readonly #chars: readonly string[];
  #at = 0;

  constructor(source: string) {
    this.#chars = Array.from(source);
  }

  /** The expression in its parts. */
  all(): string[] {
    const out: string[] = [];
    while (this.#at < this.#chars.length) out.push(this.#one(this.#chars[this.#at++]!));
    return out;
  }

  #one(char: string): string {
    if (char === '[') return this.#set();
    if (char === '\\') return this.#escape();
    if (char === '.') return '[^\\n]';
    if (char === '^') return '(?:^)';
    if (char === '{') return this.#repeat();
    return char === ']' || char === '}' ? `\\${char}` : char;
  }

  /** Behind a brace: a count when it is one, else the brace itself. */
  #repeat(): string {
    const match = /^(\d+)(,(\d*))?\}/.exec(this.#chars.slice(this.#at, this.#at + MAX_COUNT_LENGTH).join(''));
    if (!match) return '\\{';
    if (Math.max(Number(match[1]), Number(match[3] ?? 0)) > MAX_REPEAT) throw badPattern();
    this.#at += match[0].length;
    return `{${match[0]}`;
  }

  #escape(): string {
    const char = this.#next();
    if (char === 'b' || char === 'B') return `(?:\\${char})`;
    if (char === 'A') return '(?:^(?:))'; // told apart from ^
    if (char === 'z') return '(?:$)';
    const lower = char.toLowerCase();
    const members = CLASSES[lower];
    if (members !== undefined) return char === lower ? `[${members}]` : `[^${members}]`;
    return literal(this.#escaped(char));
  }

  #next(): string {
    const char = this.#chars[this.#at++];
    if (char === undefined) throw badPattern();
    return char;
  }

  /** Code point of an escaped single character. */
  #escaped(char: string): number {
    const control = CONTROLS[char];
    if (control !== undefined) return control;
    const code = char.codePointAt(0)!;
    if (code >= 0x80 || /[0-9A-Za-z]/.test(char)) throw badPattern();
    return code;
  }

  /** Behind an opening bracket. A closing bracket in first place is a member. */
  #set(): string {
    let out = '[';
    if (this.#chars[this.#at] === '^') {
      out += '^';
      this.#at++;
    }
    for (let first = true; first || this.#chars[this.#at] !== ']'; first = false) {
      const group = this.#group();
      if (group !== undefined) {
        out += group;
        continue;
      }
      const low = this.#member();
      let high = low;
      if (this.#chars[this.#at] === '-' && this.#chars[this.#at + 1] !== ']') {
        this.#at++;
        high = this.#member();
        if (high < low) throw badPattern();
      }
      out += low === high ? literal(low) : `${literal(low)}-${literal(high)}`;
    }
    this.#at++;
    return `${out}]`;
  }

  #member(): number {
    const char = this.#next();
    return char === '\\' ? this.#escaped(this.#next()) : char.codePointAt(0)!;
  }

  /** `[:alpha:]` or `\d` within a set. */
  #group(): string | undefined {
    const char = this.#chars[this.#at];
    const next = this.#chars[this.#at + 1];
    if (char === '\\' && next !== undefined) {
      const members = CLASSES[next.toLowerCase()];
      if (members === undefined) return undefined;
      this.#at += 2;
      return next === next.toLowerCase() ? members : `\\${next}`;
    }
    if (char !== '[' || next !== ':') return undefined;
    const end = this.#chars.findIndex((c, i) => i >= this.#at + 2 && c === ':' && this.#chars[i + 1] === ']');
    if (end < 0) return undefined;
    const members = POSIX_CLASSES[this.#chars.slice(this.#at + 2, end).join('')];
    if (members === undefined) throw badPattern();
    this.#at = end + 2;
    return members;
  }
}
