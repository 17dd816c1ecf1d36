import { BuildError } from '../base/errors.ts';
import { replacePattern, reverse, reversePattern, trimPrefix } from './pattern.ts';
import { quote } from './text.ts';
import { NO_WORDS, WordCollector, type Words } from './words.ts';

/** Where values come from. `keys` is for suggestions. */
export interface Variables {
  get(name: string): string | undefined;
  keys(): readonly string[];
}

export interface ExpandOptions {
  /** The file's escape character: backslash or backtick. */
  readonly escape: string;
  /** Quotes stay in the result. */
  readonly rawQuotes?: boolean;
  /** Escape characters stay in the result. */
  readonly rawEscapes?: boolean;
  /** Quotes have no meaning. */
  readonly ignoreQuotes?: boolean;
  /** References to unset variables stay as written. */
  readonly keepUnset?: boolean;
  /** What all expansions that share it may still give together, in UTF-16 units. */
  readonly budget?: { left: number };
}

export interface Expansion {
  readonly text: string;
  readonly used: ReadonlySet<string>;
  readonly missing: ReadonlySet<string>;
}

/** `${a:-${b:-…}}` deeper than this is refused. */
const MAX_NESTING = 500;
/** Longest text that an expansion may give, in UTF-16 units: `ENV A=$A$A` doubles every time. */
const MAX_LENGTH = 8 << 20;
/** Of all expansions of one file, which end up in steps, the image config and its history. */
export const MAX_TOTAL_LENGTH = 32 << 20;
const SPECIAL_PARAMETERS = '@*#?-$!0';

export const noVariables: Variables = { get: () => undefined, keys: () => [] };

/** `K=V` list; of two entries with the same name the later one wins. */
export function variablesOf(env: readonly string[]): Variables {
  const values = new Map<string, string>();
  for (const entry of env) {
    const at = entry.indexOf('=');
    values.set(at < 0 ? entry : entry.slice(0, at), at < 0 ? '' : entry.slice(at + 1));
  }
  return { get: (name) => values.get(name), keys: () => [...values.keys()] };
}

/**
 * Shell-like expansion of one piece of an instruction (FEATURES H27).
 * @throws {BuildError} `failed to process "…": …`
 */
export function expand(source: string, variables: Variables, options: ExpandOptions): Expansion {
  const run = new Expander(source, variables, options, () => NO_WORDS);
  try {
    const { text } = run.scan(undefined, options.rawEscapes ?? false);
    spend([text], options);
    return { text, used: run.used, missing: run.missing };
  } catch (error) {
    throw new ExpansionError(BuildError.wrap(error, `failed to process ${quote(source)}`), run.missing);
  }
}

/**
 * The expanded text split at blanks outside quotes; blanks that came with a variable count too.
 * @throws {BuildError} as `expand`
 */
export function expandWords(source: string, variables: Variables, options: ExpandOptions): readonly string[] {
  const shared = { buffer: '' };
  const run = new Expander(source, variables, options, () => new WordCollector(shared));
  try {
    const { words } = run.scan(undefined, options.rawEscapes ?? false);
    spend(words, options);
    return words;
  } catch (error) {
    throw BuildError.wrap(error, `failed to process ${quote(source)}`);
  }
}

function spend(texts: readonly string[], { budget }: ExpandOptions): void {
  if (!budget) return;
  for (const { length } of texts) budget.left -= length;
  if (budget.left < 0)
    throw new BuildError(`the results of all expansions are longer than ${MAX_TOTAL_LENGTH} characters`);
}

/** Also knows which variables were missing in front of the place at fault. */
class ExpansionError extends BuildError {
  readonly missing: ReadonlySet<string>;

  constructor(error: BuildError, missing: ReadonlySet<string>) {
    super(error.message, { code: error.code, cause: error });
    this.missing = missing;
  }
}

/** As `expand`. `check` is told about variables that are missing, also before an error is thrown. */
export function expandChecked(
  source: string,
  variables: Variables,
  options: ExpandOptions,
  check: (missing: ReadonlySet<string>) => void,
): Expansion {
  try {
    const expansion = expand(source, variables, options);
    check(expansion.missing);
    return expansion;
  } catch (error) {
    if (error instanceof ExpansionError) check(error.missing);
    throw error;
  }
}

class Expander {
  readonly used = new Set<string>();
  readonly missing = new Set<string>();
  readonly #characters: readonly string[];
  readonly #variables: Variables;
  readonly #options: ExpandOptions;
  readonly #newWords: () => Words;
  #at = 0;
  #depth = 0;
  #rawEscapes = false;

  constructor(source: string, variables: Variables, options: ExpandOptions, newWords: () => Words) {
    // A byte order mark in front is not read, and what is no character becomes one.
    const text = source.toWellFormed();
    this.#characters = [...(text.startsWith('\ufeff') ? text.slice(1) : text)];
    this.#variables = variables;
    this.#options = options;
    this.#newWords = newWords;
  }

  /** Reads up to `stop` (consumed), or to the end when `stop` is undefined. */
  scan(stop: string | undefined, rawEscapes: boolean): { text: string; words: string[] } {
    if (++this.#depth > MAX_NESTING) throw new BuildError('substitutions are nested too deeply');
    const outerRawEscapes = this.#rawEscapes;
    this.#rawEscapes = rawEscapes;
    const words = this.#newWords();
    let text = '';
    for (let next = this.#peek(); ; next = this.#peek()) {
      if (next === undefined) {
        if (stop === undefined) break;
        throw new BuildError(`unexpected end of statement while looking for matching ${stop}`);
      }
      if (next === stop) {
        this.#at++;
        break;
      }
      const special = this.#special(next);
      if (special !== undefined) {
        text += bounded(special, text.length);
        if (next === '$') words.add(special);
        else words.addRaw(special);
      } else text += this.#plain(words);
    }
    this.#rawEscapes = outerRawEscapes;
    this.#depth--;
    return { text, words: words.finish() };
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #take(): string | undefined {
    return this.#characters[this.#at++];
  }

  #special(next: string): string | undefined {
    if (next === '$') return this.#dollar();
    if (next === '<') return this.#lessThan();
    if (this.#options.ignoreQuotes) return undefined;
    if (next === "'") return this.#singleQuoted();
    return next === '"' ? this.#doubleQuoted() : undefined;
  }

  #plain(words: Words): string {
    const character = this.#take()!;
    if (character !== this.#options.escape) {
      words.add(character);
      return character;
    }
    const kept = this.#rawEscapes ? character : '';
    words.addRaw(kept);
    const escaped = this.#take();
    if (escaped === undefined) return kept;
    words.addRaw(escaped);
    return kept + escaped;
  }

  /** `<<` keeps the blanks behind it, so that `<< EOF` is one word. */
  #lessThan(): string {
    this.#at++;
    if (this.#peek() !== '<') return '<';
    this.#at++;
    let out = '<<';
    for (let next = this.#peek(); next === '\t' || next === '\r' || next === ' '; next = this.#peek()) {
      out += next;
      this.#at++;
    }
    return out;
  }

  #singleQuoted(): string {
    const start = ++this.#at;
    const end = this.#characters.indexOf("'", start);
    this.#at = end < 0 ? this.#characters.length : end + 1;
    if (end < 0) throw new BuildError('unexpected end of statement while looking for matching single-quote');
    const inner = this.#characters.slice(start, end).join('');
    return this.#options.rawQuotes ? `'${inner}'` : inner;
  }

  #doubleQuoted(): string {
    this.#at++;
    let inner = '';
    for (let next = this.#peek(); next !== '"'; next = this.#peek()) {
      if (next === undefined)
        throw new BuildError('unexpected end of statement while looking for matching double-quote');
      inner += next === '$' ? bounded(this.#dollar(), inner.length) : this.#quotedCharacter();
    }
    this.#at++;
    return this.#options.rawQuotes ? `"${inner}"` : inner;
  }

  /** Inside double quotes only `"`, `$` and the escape character itself can be escaped. */
  #quotedCharacter(): string {
    const character = this.#take()!;
    if (character !== this.#options.escape) return character;
    const kept = this.#rawEscapes ? character : '';
    const next = this.#peek();
    if (next === undefined) return kept;
    if (next !== '"' && next !== '$' && next !== this.#options.escape) return kept + character;
    this.#at++;
    return kept + next;
  }

  #dollar(): string {
    this.#at++;
    if (this.#peek() === '{') {
      this.#at++;
      return this.#braced();
    }
    const name = this.#name();
    if (name === '') return '$';
    return this.#lookup(name) ?? (this.#options.keepUnset ? `$${name}` : '');
  }

  #braced(): string {
    const first = this.#peek();
    if (first === undefined) throw new BuildError("syntax error: missing '}'");
    if ('{}:'.includes(first)) throw new BuildError('syntax error: bad substitution');
    const name = this.#name();
    const operator = this.#take() ?? '\ufffd';
    if (operator === '}') return this.#lookup(name) ?? (this.#options.keepUnset ? `\${${name}}` : '');
    if (operator === '/') return this.#replace(name);
    if (operator === ':') return this.#modify(name, this.#take() ?? '\ufffd', true);
    if ('+-?#%'.includes(operator)) return this.#modify(name, operator, false);
    throw new BuildError(`unsupported modifier (${operator}) in substitution`);
  }

  #modify(name: string, operator: string, emptyIsUnset: boolean): string {
    const written = emptyIsUnset ? `:${operator}` : operator;
    const isTrim = operator === '#' || operator === '%';
    if (emptyIsUnset && isTrim) throw new BuildError(`unsupported modifier (${written}) in substitution`);
    const word = this.#operand('}', isTrim, "syntax error: missing '}'");
    const value = this.#lookup(name);
    if (value === undefined && this.#options.keepUnset) return `\${${name}${written}${word}}`;
    const absent = value === undefined || (emptyIsUnset && value === '');
    if (operator === '-') return absent ? word : value;
    if (operator === '+') return absent ? '' : word;
    if (operator === '?') {
      if (!absent) return value;
      const state = value === undefined ? 'unset' : 'empty';
      throw new BuildError(`${name}: ${word || `is not allowed to be ${state}`}`);
    }
    if (!isTrim) throw new BuildError(`unsupported modifier (${written}) in substitution`);
    return this.#trim(operator, word, value ?? '');
  }

  /** The operator twice asks for the longest match. */
  #trim(operator: string, word: string, value: string): string {
    const greedy = word.startsWith(operator);
    const pattern = greedy ? word.slice(1) : word;
    if (operator === '#') return withPattern(pattern, () => trimPrefix(value, pattern, greedy));
    // The shortest match at the end must start last, so both are read from behind.
    const reversed = reversePattern(pattern);
    const rest = withPattern(reversed, () => trimPrefix(reverse(value), reversed, greedy));
    return reverse(rest);
  }

  #replace(name: string): string {
    const all = this.#peek() === '/';
    if (all) this.#at++;
    const pattern = this.#operand('/', true, `syntax error: missing '/' in \${}`);
    const replacement = this.#operand('}', true, "syntax error: missing '}'");
    const value = this.#lookup(name);
    if (value === undefined && this.#options.keepUnset) return `\${${name}/${pattern}/${replacement}}`;
    return withPattern(pattern, () => replacePattern(value ?? '', pattern, replacement, all));
  }

  /** Reaching the end of the text hides whatever else was wrong. */
  #operand(stop: string, rawEscapes: boolean, atEnd: string): string {
    try {
      return this.scan(stop, rawEscapes).text;
    } catch (error) {
      throw this.#peek() === undefined ? new BuildError(atEnd) : error;
    }
  }

  #name(): string {
    const first = this.#peek();
    if (first === undefined) return '';
    if (/^\p{Nd}$/u.test(first)) return this.#takeWhile(/^\p{Nd}$/u);
    if (SPECIAL_PARAMETERS.includes(first)) {
      this.#at++;
      return first;
    }
    return this.#takeWhile(/^[\p{L}\p{Nd}_]$/u);
  }

  #takeWhile(pattern: RegExp): string {
    const start = this.#at;
    for (let next = this.#peek(); next !== undefined && pattern.test(next); next = this.#peek()) this.#at++;
    return this.#characters.slice(start, this.#at).join('');
  }

  #lookup(name: string): string | undefined {
    const value = this.#variables.get(name);
    (value === undefined ? this.missing : this.used).add(name);
    return value;
  }
}

function withPattern(pattern: string, run: () => string): string {
  try {
    return run();
  } catch (error) {
    throw BuildError.wrap(error, `invalid pattern (${pattern}) in substitution`);
  }
}

function bounded(part: string, before: number): string {
  if (part.length + before > MAX_LENGTH)
    throw new BuildError(`the result is longer than ${MAX_LENGTH} characters`);
  return part;
}
