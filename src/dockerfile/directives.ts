import { BuildError } from '../base/errors.ts';
import { lines, type Location } from './location.ts';
import { cut, trimStart } from './text.ts';

export type DirectiveName = 'syntax' | 'escape' | 'check';

export interface Directive {
  readonly name: DirectiveName;
  readonly value: string;
  readonly line: number;
}

const KNOWN: ReadonlySet<string> = new Set<DirectiveName>(['syntax', 'escape', 'check']);
const START = /^([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*/;
const BLANKS = '\t\n\f\r ';
/** Behind a line that is longer, without its line feed, nothing is looked for. */
const MAX_LINE_BYTES = 65535;
/** Of one UTF-16 unit in UTF-8. */
const MAX_UNIT_BYTES = 3;
const BOM = '\ufeff';

/** Takes lines from the top of a file; the first one that is no directive ends it (FEATURES H21). */
export class DirectiveReader {
  readonly #comment: string;
  readonly #seen = new Set<string>();
  #line: number;
  #done = false;

  constructor(comment = '#', linesBefore = 0) {
    this.#comment = comment;
    this.#line = linesBefore;
  }

  get done(): boolean {
    return this.#done;
  }

  /** @throws {BuildError} when a directive occurs twice. */
  read(line: string): Directive | undefined {
    this.#line++;
    if (this.#done) return undefined;
    const found = line.startsWith(this.#comment)
      ? nameAndValue(trimStart(line.slice(this.#comment.length)))
      : undefined;
    const name = found?.name ?? '';
    if (!found || !KNOWN.has(name)) {
      this.#done = true;
      return undefined;
    }
    if (this.#seen.has(name)) throw new BuildError(`only one ${name} parser directive can be used`);
    this.#seen.add(name);
    return { name: name as DirectiveName, value: found.value, line: this.#line };
  }
}

function nameAndValue(text: string): { name: string; value: string } | undefined {
  const match = START.exec(text);
  if (!match || (match[0] === text && text.endsWith('='))) return undefined;
  // A value of blanks only is the last one of them.
  const from = Math.min(match[0].length, text.length - 1);
  // Not a regular expression: one that ends in blanks is quadratic on long inner ones.
  let end = text.length;
  while (end > from + 1 && BLANKS.includes(text[end - 1]!)) end--;
  const value = text.slice(from, end);
  return value.includes('\n') ? undefined : { name: match[1]!.toLowerCase(), value };
}

export interface FoundDirective {
  /** The value up to its first space. */
  readonly value: string;
  readonly whole: string;
  readonly location: Location;
}

export function stripBom(text: string): string {
  return text.startsWith(BOM) ? text.slice(1) : text;
}

/** The directive `name` in `#` comments at the top of the file. */
export function findDirective(text: string, name: DirectiveName): FoundDirective | undefined {
  const { body, skipped } = withoutShebang(stripBom(text));
  return findWith(body, name, '#', skipped);
}

/**
 * Whether a frontend image speaks the language of the labs channel: `docker/dockerfile:1-labs`, `…:labs`,
 * `…:1.17-labs@sha256:…` (FEATURES H88).
 */
export function isLabs(image: string): boolean {
  return /:(?:[^/:@]*-)?labs(?:@|$)/.test(image);
}

/** The syntax directive in any of its forms: `#` comment, `//` comment, or key of a JSON object. */
export function findSyntax(text: string): FoundDirective | undefined {
  const { body, skipped } = withoutShebang(stripBom(text));
  return (
    findWith(body, 'syntax', '#', skipped) ??
    findWith(body, 'syntax', '//', skipped) ??
    findInJson(body, skipped)
  );
}

function withoutShebang(text: string): { body: string; skipped: number } {
  if (!text.startsWith('#!')) return { body: text, skipped: 0 };
  return { body: cut(text, '\n')[1] ?? '', skipped: 1 };
}

function findWith(text: string, name: string, comment: string, skipped: number): FoundDirective | undefined {
  const reader = new DirectiveReader(comment, skipped);
  for (let rest: string | undefined = text; rest; ) {
    const [line, next] = cut(rest, '\n');
    rest = next;
    if (isTooLong(line)) return undefined;
    let directive: Directive | undefined;
    try {
      directive = reader.read(line.replace(/\r$/, ''));
    } catch {
      return undefined; // the parser itself reports a directive that occurs twice
    }
    if (reader.done) return undefined;
    if (directive?.name === name)
      return {
        value: cut(directive.value, ' ')[0],
        whole: directive.value,
        location: lines(directive.line, directive.line),
      };
  }
  return undefined;
}

function isTooLong(line: string): boolean {
  return line.length > MAX_LINE_BYTES / MAX_UNIT_BYTES && Buffer.byteLength(line) > MAX_LINE_BYTES;
}

function findInJson(text: string, skipped: number): FoundDirective | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    const syntax = (value as Record<string, unknown>).syntax;
    if (typeof syntax !== 'string') return undefined;
    return { value: syntax, whole: syntax, location: lines(skipped, skipped) };
  } catch {
    return undefined; // not JSON: no directive
  }
}
