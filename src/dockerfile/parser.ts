import { BuildError } from '../base/errors.ts';
import { decodeText, encodeText } from './bytes.ts';
import type { Heredoc, Node, ParsedFile, ParseWarning } from './ast.ts';
import { DirectiveReader, stripBom } from './directives.ts';
import { atLocation } from './errors.ts';
import { lines, type Location } from './location.ts';
import { heredocsOf } from './heredoc.ts';
import { parseLine } from './split.ts';
import { trim, trimStart } from './text.ts';

/** Longest line in bytes, line feed included; one less for a last line without one. */
const MAX_LINE_BYTES = 65536;
/** Most bytes that a UTF-16 unit stands for. */
const MAX_CHARACTER_BYTES = 3;

/**
 * Splits a Dockerfile into instructions (FEATURES H21, H23, H24, H26). Nothing is expanded and
 * instruction words are not checked.
 * @throws {LocatedError}
 */
export function parseDockerfile(text: string): ParsedFile {
  return new Parser(text).parse();
}

class Parser {
  readonly #source: LineSource;
  readonly #directives = new DirectiveReader();
  readonly #nodes: Node[] = [];
  readonly #warnings: ParseWarning[] = [];
  #continuation = continuationPattern('\\');
  #escape = '\\';
  #comments: string[] = [];

  /** A file of nothing but a byte order mark has a line all the same. */
  readonly #firstLine: number;

  constructor(text: string) {
    const bare = stripBom(text);
    this.#source = new LineSource(bare, encodeText(text.slice(0, text.length - bare.length)).length);
    this.#firstLine = text !== '' && bare === '' ? 1 : 0;
  }

  parse(): ParsedFile {
    for (let line = this.#source.next(); line !== undefined; line = this.#source.next()) {
      this.#instruction(line);
    }
    const end = lines(Math.max(this.#source.line, this.#firstLine), 0);
    if (this.#nodes.length === 0) throw atLocation(new BuildError('file with no instructions'), end);
    if (this.#source.tooLong)
      throw atLocation(
        new BuildError(`dockerfile line greater than max allowed size of ${MAX_LINE_BYTES - 1}`),
        end,
      );
    return { nodes: this.#nodes, escape: this.#escape, emptyContinuations: this.#warnings };
  }

  #instruction(raw: string): void {
    const startLine = this.#source.line;
    if (isComment(raw)) this.#comment(raw);
    const first = this.#stripped(trimStart(trimNewline(raw)), startLine - 1, true);
    const begin = this.#withoutContinuation(first);
    if (begin.last && begin.text === '') return;
    const original = begin.last ? begin.text : begin.text + this.#continued();
    const location = () => lines(startLine, this.#source.line);
    const parsed = located(location, () => parseLine(original, this.#escape));
    const heredocs = located(location, () => heredocsOf(parsed).map((heredoc) => this.#body(heredoc)));
    this.#nodes.push({
      ...parsed,
      heredocs,
      comments: this.#comments,
      startLine,
      endLine: this.#source.line,
    });
    this.#comments = [];
  }

  /** The lines that follow a continuation character. Comments and empty lines do not end them. */
  #continued(): string {
    let joined = '';
    let sawEmpty = false;
    for (let raw = this.#source.next(); raw !== undefined; raw = this.#source.next()) {
      const line = this.#stripped(trimNewline(raw), this.#source.line - 1, false);
      if (isComment(raw)) continue;
      if (trimStart(line) === '') {
        sawEmpty = true;
        continue;
      }
      const part = this.#withoutContinuation(line);
      joined += part.text;
      if (part.last) break;
    }
    if (sawEmpty) this.#warnings.push({ text: joined, line: this.#source.line });
    return joined;
  }

  #body(heredoc: Heredoc): Heredoc {
    let content = '';
    for (let raw = this.#source.next(); raw !== undefined; raw = this.#source.next()) {
      const line = trimNewline(raw);
      if ((heredoc.chomp ? line.replace(/^\t+/, '') : line) === heredoc.name) return { ...heredoc, content };
      content += raw;
    }
    throw new BuildError('unterminated heredoc');
  }

  #comment(raw: string): void {
    const text = trim(raw.slice(1));
    if (text === '') this.#comments = [];
    else this.#comments.push(text);
  }

  /** The line, or nothing for a comment. Directives are read on the way. */
  #stripped(line: string, errorLine: number, countsAsComment: boolean): string {
    const directive = located(
      () => lines(errorLine, 0),
      () => {
        const found = this.#directives.read(line);
        if (found?.name === 'escape') this.#setEscape(found.value);
        return found;
      },
    );
    if (directive && countsAsComment) this.#comments.pop();
    return isComment(line) ? '' : line;
  }

  #setEscape(value: string): void {
    if (value !== '`' && value !== '\\')
      throw new BuildError(`invalid escape token '${value}' does not match \` or \\`);
    this.#escape = value;
    this.#continuation = continuationPattern(value);
  }

  #withoutContinuation(line: string): { text: string; last: boolean } {
    const match = this.#continuation.exec(line);
    return match
      ? { text: line.slice(0, match.index) + (match[1] ?? ''), last: false }
      : { text: line, last: true };
  }
}

/** An escape character at the end, not behind another one; blanks may follow. */
function continuationPattern(escapeChar: string): RegExp {
  return escapeChar === '\\' ? /([^\\])\\[ \t]*$|^\\[ \t]*$/ : /([^`])`[ \t]*$|^`[ \t]*$/;
}

function located<T>(location: () => Location, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw atLocation(error, location());
  }
}

function isComment(line: string): boolean {
  return trimStart(line).startsWith('#');
}

function trimNewline(line: string): string {
  let end = line.length;
  while (end > 0 && (line[end - 1] === '\n' || line[end - 1] === '\r')) end--;
  return line.slice(0, end);
}

/** Lines with their line feeds. Stops in front of a line that is too long. */
class LineSource {
  readonly #text: string;
  #at = 0;
  #tooLong = false;
  /** The line that is too long. */
  #cut: string | undefined;
  #line = 0;
  /** Bytes in front of the line that count with it. */
  #extra: number;

  constructor(text: string, extra: number) {
    this.#text = text;
    this.#extra = extra;
  }

  /** Number of lines taken. */
  get line(): number {
    return this.#line;
  }

  get tooLong(): boolean {
    return this.#tooLong;
  }

  /**
   * The next line. One that is too long ends the lines; who asks on all the same, in the middle of an instruction,
   * gets what of it fits, once, as BuildKit's reader has it.
   */
  next(): string | undefined {
    if (this.#tooLong) return this.#takeCut();
    if (this.#at >= this.#text.length) return undefined;
    const feed = this.#text.indexOf('\n', this.#at);
    const line = this.#text.slice(this.#at, feed < 0 ? undefined : feed + 1);
    const room = (feed < 0 ? MAX_LINE_BYTES - 1 : MAX_LINE_BYTES) - this.#extra;
    if (line.length * MAX_CHARACTER_BYTES > room && encodeText(line).length > room) {
      this.#tooLong = true;
      this.#cut = line;
      return undefined;
    }
    this.#extra = 0;
    this.#at += line.length;
    this.#line++;
    return line;
  }

  #takeCut(): string | undefined {
    if (this.#cut === undefined) return undefined;
    const cut = decodeText(encodeText(this.#cut).subarray(0, MAX_LINE_BYTES));
    this.#cut = undefined;
    this.#line++;
    return cut;
  }
}
