import type { Pattern } from './patterns.ts';

/** Where a fixed piece of text is looked for: by its length, then by the text. */
type PieceTable = Map<number, Map<string, number[]>>;

/**
 * Finds the patterns that match a path without asking each: exact ones by the whole path, the others by the fixed
 * text that a matching path must start or end with.
 */
export class PatternIndex {
  readonly #patterns: readonly Pattern[];
  readonly #exact = new Map<string, number[]>();
  readonly #prefixes: PieceTable = new Map();
  readonly #suffixes: PieceTable = new Map();
  /** Without fixed text at either end. */
  readonly #others: number[] = [];

  constructor(patterns: readonly Pattern[]) {
    this.#patterns = patterns;
    for (const [at, pattern] of patterns.entries()) this.#add(pattern, at);
  }

  /** Indexes of the patterns that match, and of bad ones, ascending. */
  find(path: string): readonly number[] {
    const exact = this.#exact.get(path);
    let found: number[] | undefined;
    const collect = (candidates: readonly number[]): void => {
      for (const at of candidates) {
        const pattern = this.#patterns[at]!;
        if (pattern.kind === 'regexp' && !pattern.regexp!.test(path)) continue;
        (found ??= []).push(at);
      }
    };
    for (const [length, table] of this.#prefixes) {
      if (length > path.length) continue;
      const candidates = table.get(path.slice(0, length));
      if (candidates) collect(candidates);
    }
    for (const [length, table] of this.#suffixes) {
      if (length > path.length) continue;
      const candidates = table.get(path.slice(path.length - length));
      if (candidates) collect(candidates);
    }
    if (this.#others.length > 0) collect(this.#others);
    if (found === undefined) return exact ?? NONE;
    if (exact) found.push(...exact);
    return found.length === 1 ? found : found.sort((a, b) => a - b);
  }

  #add(pattern: Pattern, at: number): void {
    const { text } = pattern;
    if (pattern.kind === 'exact') push(this.#exact, text, at);
    else if (pattern.kind === 'prefix') addPiece(this.#prefixes, text.slice(0, -2), at);
    else if (pattern.kind === 'suffix') {
      addPiece(this.#suffixes, text.slice(2), at);
      if (text[2] === '/') push(this.#exact, text.slice(3), at);
    } else if (pattern.kind === 'regexp') this.#addRegExp(text, at);
    else this.#others.push(at);
  }

  #addRegExp(text: string, at: number): void {
    if (/[|{]/.test(text)) {
      this.#others.push(at);
      return;
    }
    const start = /^[^*?[\]\\^]*/.exec(text)![0];
    // `a/**/b` matches `a/b`, and `a**` needs no slash: the slash before a double star is fixed, nothing behind it.
    if (start.length > 0) {
      addPiece(this.#prefixes, start, at);
      return;
    }
    let from = text.length;
    while (from > 0 && !SPECIAL.has(text[from - 1]!)) from--;
    const end = text.slice(from);
    // `**/x` may stand for `x`; and what follows a backslash may mean more than itself.
    const fixed = text.endsWith(`**${end}`) && end.startsWith('/') ? end.slice(1) : end;
    const escaped = text[text.length - end.length - 1] === '\\';
    if (fixed.length > 0 && !escaped) addPiece(this.#suffixes, fixed, at);
    else this.#others.push(at);
  }
}

const SPECIAL: ReadonlySet<string> = new Set('*?[]\\^');
const NONE: readonly number[] = [];

function addPiece(tables: PieceTable, piece: string, at: number): void {
  let table = tables.get(piece.length);
  if (!table) tables.set(piece.length, (table = new Map()));
  push(table, piece, at);
}

function push(table: Map<string, number[]>, key: string, at: number): void {
  const list = table.get(key);
  if (list) list.push(at);
  else table.set(key, [at]);
}
