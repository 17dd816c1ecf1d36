import { BuildError, invalidArgument } from '../base/errors.ts';
import type { UsageRecord } from './ref.ts';

/** Value of a field; undefined when the object does not have it. A flag that is set has the value ''. */
export type FieldLookup = (path: readonly string[]) => string | undefined;
export type Filter = (field: FieldLookup) => boolean;

/**
 * Filters of containerd's grammar (FEATURES B31): `field`, `field==value`, `field!=value`, `field~=regexp`,
 * joined by `,` for "and"; several strings are "or"; none match everything. Names are letters, digits and `_`,
 * nested ones joined by `.`; values may be in double quotes, regular expressions also in `/` or `|`. An empty
 * string matches everything: `docker buildx du` sends one.
 * @param what the error says that these are filters of
 * @throws invalidArgument with the place marked.
 */
export function parseFilters(texts: readonly string[], what?: string): Filter {
  if (texts.length === 0) return () => true;
  try {
    const filters = texts.map((text) => (text === '' ? () => true : new Parser(text).parse()));
    return (field) => filters.some((filter) => filter(field));
  } catch (error) {
    throw what === undefined
      ? error
      : BuildError.wrap(error, `failed to parse ${what} filters [${texts.join(' ')}]`);
  }
}

/** The fields of a usage record that filters see. */
export function usageField(record: UsageRecord): FieldLookup {
  const flag = (set: boolean): string | undefined => (set ? '' : undefined);
  const text = (value: string): string | undefined => (value === '' ? undefined : value);
  const fields: Record<string, () => string | undefined> = {
    id: () => text(record.id),
    parents: () => text(record.parents.join(';')),
    description: () => text(record.description),
    inuse: () => flag(record.inUse),
    mutable: () => flag(record.mutable),
    immutable: () => flag(!record.mutable),
    type: () => text(record.recordType),
    shared: () => flag(record.shared),
    private: () => flag(!record.shared),
  };
  return ([name]) => (name !== undefined && Object.hasOwn(fields, name) ? fields[name]!() : undefined);
}

type Token =
  | { readonly kind: 'end' | 'illegal'; readonly at: number; readonly text: string }
  | {
      readonly kind: 'field' | 'value' | 'quoted' | 'operator' | 'separator';
      readonly at: number;
      readonly text: string;
    };

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Filter {
    const all = [this.#selector()];
    for (let token = this.#next(false); token.kind !== 'end'; token = this.#next(false)) {
      if (token.kind !== 'separator' || token.text !== ',')
        throw this.#error(token.at, `unexpected input: ${token.text}`);
      all.push(this.#selector());
    }
    return (field) => all.every((one) => one(field));
  }

  #selector(): Filter {
    const path = [this.#field()];
    while (this.#text[this.#at] === '.') {
      this.#at++;
      path.push(this.#field());
    }
    const start = this.#at;
    const token = this.#next(false);
    if (token.kind === 'end' || (token.kind === 'separator' && token.text === ',')) {
      this.#at = token.kind === 'end' ? this.#at : start;
      return (field) => field(path) !== undefined;
    }
    if (token.kind !== 'operator') throw this.#error(token.at, 'expected an operator ("=="|"!="|"~=")');
    return this.#comparison(path, token);
  }

  #comparison(path: readonly string[], operator: Token): Filter {
    switch (operator.text) {
      case '==': {
        const value = this.#value(false);
        return (field) => field(path) === value;
      }
      case '!=': {
        const value = this.#value(false);
        return (field) => (field(path) ?? '') !== value;
      }
      case '~=': {
        const pattern = regexp(this.#value(true));
        return (field) => pattern?.test(field(path) ?? '') ?? false;
      }
      default:
        throw this.#error(operator.at, `unsupported operator ${JSON.stringify(operator.text)}`);
    }
  }

  #field(): string {
    const token = this.#next(false);
    if (token.kind === 'field') return token.text;
    if (token.kind === 'quoted') return this.#unquote(token, false);
    throw this.#error(token.at, token.kind === 'illegal' ? token.text : 'expected field or quoted');
  }

  #value(anyQuote: boolean): string {
    const token = this.#next(true);
    if (token.kind === 'value') return token.text;
    if (token.kind === 'quoted') return this.#unquote(token, anyQuote);
    if (token.kind === 'end') throw this.#error(token.at, 'expected value or quoted');
    throw this.#error(token.at, token.kind === 'illegal' ? token.text : 'expected value or quoted');
  }

  #next(wantValue: boolean): Token {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
    const at = this.#at;
    const rest = this.#text.slice(at);
    if (rest === '') return { kind: 'end', at, text: '' };
    const take = (kind: Token['kind'], text: string): Token => {
      this.#at = at + text.length;
      return { kind, at, text };
    };
    const quote = rest[0]!;
    if (quote === '"' || quote === '/' || quote === '|') {
      const quoted = new RegExp(`^\\${quote}(?:\\\\.|[^\\\\\\n\\${quote}])*\\${quote}`).exec(rest);
      return quoted
        ? take('quoted', quoted[0])
        : { kind: 'illegal', at, text: 'quoted literal not terminated' };
    }
    const operator = /^[=!~]+/.exec(rest);
    if (quote === ',' || quote === '.') return take('separator', quote);
    if (operator) return take('operator', operator[0]);
    const word = wantValue ? /^[^,\s]+/.exec(rest) : /^\w+/.exec(rest);
    if (word) return take(wantValue ? 'value' : 'field', word[0]);
    return { kind: 'illegal', at, text: `unexpected input: ${quote}` };
  }

  #unquote(token: Token, anyQuote: boolean): string {
    if (!anyQuote && token.text[0] !== '"') throw this.#error(token.at, 'invalid quote encountered');
    const quote = token.text[0]!;
    return token.text.slice(1, -1).replaceAll(ESCAPE, (sequence) => {
      const decoded = sequence === `\\${quote}` ? quote : decodeEscape(sequence);
      if (decoded === undefined) throw this.#error(token.at, 'illegal escape sequence');
      return decoded;
    });
  }

  #error(at: number, message: string): BuildError {
    const text = this.#text;
    const place = at < text.length ? `${text.slice(0, at)} >|${text[at]}|< ${text.slice(at + 1)}` : text;
    return invalidArgument(`filters: parse error: [${place}]: ${message}: invalid argument`);
  }
}

const ESCAPE = /\\(?:x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[0-7]{3}|.)/g;
const SHORT: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
};

function decodeEscape(sequence: string): string | undefined {
  if (sequence.length === 2) return SHORT[sequence[1]!];
  const code = /^[0-7]/.test(sequence[1]!)
    ? Number.parseInt(sequence.slice(1), 8)
    : Number.parseInt(sequence.slice(2), 16);
  return code <= 0x10ffff ? String.fromCodePoint(code) : undefined;
}

/** An expression that cannot be compiled matches nothing. */
function regexp(source: string): RegExp | undefined {
  try {
    return new RegExp(source, 'u');
  } catch {
    return undefined;
  }
}
