/** What BuildKit says of a text that is no JSON: the first character that cannot stand where it does. */

const END = 'unexpected end of JSON input';
const SPACE = /[\t\n\r ]*/y;
const DIGITS = /[0-9]+/y;
const LITERALS: Readonly<Record<string, string>> = { t: 'true', f: 'false', n: 'null' };

/** undefined when nothing is wrong with it. */
export function jsonProblem(text: string): string | undefined {
  try {
    new Scanner(text).whole();
    return undefined;
  } catch (error) {
    if (error instanceof Problem) return error.message;
    throw error;
  }
}

class Problem extends Error {}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): void {
    const open: ('{' | '[')[] = [];
    // Not by recursion: a client may send as many brackets as it likes.
    for (let isValue = true; ; ) {
      if (isValue && this.#begin(open)) continue;
      isValue = this.#next(open);
      if (!isValue) return;
    }
  }

  /** Reads a value, or the begin of one that holds others: true when its first value follows. */
  #begin(open: ('{' | '[')[]): boolean {
    const first = this.#peek();
    if (first === '{' || first === '[') {
      this.#at++;
      if (this.#peek() === (first === '{' ? '}' : ']')) {
        this.#at++;
        return false;
      }
      open.push(first);
      if (first === '{') this.#key();
      return true;
    }
    if (first === '"') this.#string();
    else if (/[-0-9]/.test(first)) this.#number();
    else if (LITERALS[first]) this.#literal(LITERALS[first]);
    else throw this.#wrong('looking for beginning of value');
    return false;
  }

  /** What stands behind a value. @returns whether another follows; false at the end of the text */
  #next(open: ('{' | '[')[]): boolean {
    for (;;) {
      const inside = open.at(-1);
      this.#space();
      if (inside === undefined) {
        if (this.#at < this.#text.length) throw this.#wrong('after top-level value');
        return false;
      }
      const char = this.#peek();
      if (char === ',') {
        this.#at++;
        if (inside === '{') this.#key();
        return true;
      }
      if (char !== (inside === '{' ? '}' : ']'))
        throw this.#wrong(inside === '{' ? 'after object key:value pair' : 'after array element');
      this.#at++;
      open.pop();
    }
  }

  #key(): void {
    if (this.#peek() !== '"') throw this.#wrong('looking for beginning of object key string');
    this.#string();
    if (this.#peek() !== ':') throw this.#wrong('after object key');
    this.#at++;
  }

  #string(): void {
    for (this.#at++; ; this.#at++) {
      const char = this.#char();
      if (char === '"') break;
      if (char < ' ') throw this.#wrong('in string literal');
      if (char === '\\') this.#escape();
    }
    this.#at++;
  }

  /** Ends at its last character. */
  #escape(): void {
    this.#at++;
    const char = this.#char();
    if (!/["\\/bfnrtu]/.test(char)) throw this.#wrong('in string escape code');
    for (let left = char === 'u' ? 4 : 0; left > 0; left--) {
      this.#at++;
      if (!/[0-9a-fA-F]/.test(this.#char())) throw this.#wrong('in \\u hexadecimal character escape');
    }
  }

  #number(): void {
    if (this.#char() === '-') this.#at++;
    if (this.#char() === '0') this.#at++;
    else this.#digits('in numeric literal');
    if (this.#text[this.#at] === '.') {
      this.#at++;
      this.#digits('after decimal point in numeric literal');
    }
    if (!/^[eE]$/.test(this.#text[this.#at] ?? '')) return;
    this.#at++;
    if (/[-+]/.test(this.#char())) this.#at++;
    this.#digits('in exponent of numeric literal');
  }

  #digits(where: string): void {
    if (!/[0-9]/.test(this.#char())) throw this.#wrong(where);
    DIGITS.lastIndex = this.#at;
    this.#at += DIGITS.exec(this.#text)?.[0].length ?? 0;
  }

  #literal(word: string): void {
    for (const expected of word) {
      if (this.#char() !== expected) throw this.#wrong(`in literal ${word} (expecting '${expected}')`);
      this.#at++;
    }
  }

  /** The next character that is no space. @throws Problem at the end */
  #peek(): string {
    this.#space();
    if (this.#at >= this.#text.length) throw new Problem(END);
    return this.#char();
  }

  #space(): void {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)?.[0].length ?? 0;
  }

  /** The next character; the end of the text is a blank to what it cuts short. @throws Problem behind the end */
  #char(): string {
    if (this.#at > this.#text.length) throw new Problem(END);
    return this.#text[this.#at] ?? ' ';
  }

  #wrong(where: string): Problem {
    return new Problem(`invalid character ${quoted(this.#char())} ${where}`);
  }
}

/** One byte in quotes: of a longer character the first one of its encoding. */
function quoted(char: string): string {
  if (char === "'") return `'\\''`;
  const byte = Buffer.from(char)[0] ?? 0;
  const shown = { 7: '\\a', 8: '\\b', 9: '\\t', 10: '\\n', 11: '\\v', 12: '\\f', 13: '\\r', 92: '\\\\' }[
    byte
  ];
  if (shown !== undefined) return `'${shown}'`;
  return byte < 0x20 || byte === 0x7f
    ? `'\\x${byte.toString(16).padStart(2, '0')}'`
    : `'${String.fromCharCode(byte)}'`;
}
