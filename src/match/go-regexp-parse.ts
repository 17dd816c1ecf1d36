import { re2Atoms } from './regexp.ts';

export type Instruction =
  | { readonly kind: 'char'; readonly accepts: (char: string) => boolean }
  | { readonly kind: 'assert'; readonly holds: (chars: readonly string[], at: number) => boolean }
  | { readonly kind: 'save'; readonly slot: number }
  | { readonly kind: 'split'; first: number; second: number }
  | { readonly kind: 'jump'; to: number }
  | { readonly kind: 'match' };

export interface Program {
  readonly program: readonly Instruction[];
  /** Groups by their name, which several may have. */
  readonly names: ReadonlyMap<string, readonly number[]>;
}

export class GoSyntaxError extends Error {}

/** Characters of an expression. */
const MAX_SOURCE = 10_000;
/** What an expression may become when its counts are written out. */
const MAX_PROGRAM = 20_000;
const MAX_DEPTH = 200;
const MAX_GROUPS = 100;

type Node =
  | { readonly kind: 'leaf'; readonly step: Instruction }
  | { readonly kind: 'all'; readonly parts: readonly Node[] }
  | { readonly kind: 'any'; readonly parts: readonly Node[] }
  | { readonly kind: 'group'; readonly slot: number; readonly body: Node }
  | {
      readonly kind: 'repeat';
      readonly body: Node;
      readonly min: number;
      /** Undefined = any number. */
      readonly max: number | undefined;
      readonly lazy: boolean;
    };

interface Flags {
  readonly i: boolean;
  readonly m: boolean;
  readonly s: boolean;
  readonly U: boolean;
}

/** @throws GoSyntaxError */
export function parseGoRegExp(source: string): Program {
  if (source.length > MAX_SOURCE) throw new GoSyntaxError(`expression longer than ${MAX_SOURCE} characters`);
  const parser = new Parser(source);
  const body = parser.whole();
  return { program: new Emitter().whole(body), names: parser.names };
}

const isWord = (char: string | undefined): boolean => char !== undefined && /^[0-9A-Za-z_]$/.test(char);
type Holds = (chars: readonly string[], at: number) => boolean;
const atStart: Holds = (_chars, at) => at === 0;
const atEnd: Holds = (chars, at) => at === chars.length;
const atLineStart: Holds = (chars, at) => at === 0 || chars[at - 1] === '\n';
const atLineEnd: Holds = (chars, at) => at === chars.length || chars[at] === '\n';
const atBorder: Holds = (chars, at) => isWord(chars[at - 1]) !== isWord(chars[at]);
const notAtBorder: Holds = (chars, at) => !atBorder(chars, at);

class Parser {
  readonly names = new Map<string, number[]>();
  readonly #source: string;
  readonly #atoms: readonly string[];
  #at = 0;
  #groups = 0;
  #depth = 0;
  #flags: Flags = { i: false, m: false, s: false, U: false };

  constructor(source: string) {
    this.#source = source;
    try {
      this.#atoms = re2Atoms(source);
    } catch {
      throw this.#wrong('invalid character class, escape or repeat count');
    }
  }

  whole(): Node {
    const node = this.#alternatives();
    if (this.#at < this.#atoms.length) throw this.#wrong('unexpected )');
    return { kind: 'group', slot: 0, body: node };
  }

  #wrong(problem: string): GoSyntaxError {
    return new GoSyntaxError(`${problem}: \`${this.#source}\``);
  }

  #alternatives(): Node {
    const parts = [this.#sequence()];
    while (this.#take('|')) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: 'any', parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    for (let atom = this.#peek(); atom !== undefined && atom !== '|' && atom !== ')'; atom = this.#peek()) {
      const node = this.#one();
      if (node) parts.push(this.#repeats(node));
    }
    return { kind: 'all', parts };
  }

  /** What stands at this place; undefined for flags of what follows. */
  #one(): Node | undefined {
    const atom = this.#atoms[this.#at++]!;
    if (atom === '(') return this.#group();
    if (countOf(atom)) throw this.#wrong('missing argument to repetition operator');
    return { kind: 'leaf', step: this.#leaf(atom) };
  }

  #leaf(atom: string): Instruction {
    const { i, m, s } = this.#flags;
    const asserts: Readonly<Record<string, Holds>> = {
      '(?:^)': m ? atLineStart : atStart,
      $: m ? atLineEnd : atEnd,
      '(?:^(?:))': atStart,
      '(?:$)': atEnd,
      '(?:\\b)': atBorder,
      '(?:\\B)': notAtBorder,
    };
    const holds = asserts[atom];
    if (holds) return { kind: 'assert', holds };
    if (s && atom === '[^\\n]') return { kind: 'char', accepts: () => true };
    if (!i && /^[^\\[\](){}^$.|*+?]$/u.test(atom)) return { kind: 'char', accepts: (char) => char === atom };
    const one = new RegExp(`^(?:${atom})$`, i ? 'iu' : 'u');
    return { kind: 'char', accepts: (char) => one.test(char) };
  }

  #repeats(body: Node): Node {
    const atom = this.#peek();
    const count = atom === undefined ? undefined : countOf(atom);
    if (!count) return body;
    this.#at++;
    const lazy = this.#take('?') !== this.#flags.U;
    const next = this.#peek();
    if (next !== undefined && countOf(next)) throw this.#wrong('invalid nested repetition operator');
    const { min, max } = count;
    if (max !== undefined && max < min) throw this.#wrong('invalid repeat count');
    return { kind: 'repeat', body, min, max, lazy };
  }

  #group(): Node | undefined {
    const outer = this.#flags;
    let slot: number | undefined;
    if (this.#take('?')) {
      const head = /^(?:P?<([^>]*)>|([imsU]*)(?:-([imsU]+))?([:)]))/.exec(
        this.#atoms.slice(this.#at, this.#at + 200).join(''),
      );
      if (!head) throw this.#wrong('invalid or unsupported Perl syntax');
      const [all, name, on = '', off = '', end] = head;
      this.#at += Array.from(all).length;
      if (name !== undefined) slot = this.#named(name);
      else {
        const flag = (key: keyof Flags): boolean => !off.includes(key) && (on.includes(key) || outer[key]);
        this.#flags = { i: flag('i'), m: flag('m'), s: flag('s'), U: flag('U') };
        if (end === ')') return undefined;
      }
    } else slot = this.#newGroup();
    if (++this.#depth > MAX_DEPTH) throw this.#wrong('expression nests too deeply');
    const body = this.#alternatives();
    this.#depth--;
    if (!this.#take(')')) throw this.#wrong('missing closing )');
    this.#flags = outer;
    return slot === undefined ? body : { kind: 'group', slot, body };
  }

  #named(name: string): number {
    if (!/^[0-9A-Za-z_]+$/.test(name)) throw this.#wrong('invalid named capture');
    const slot = this.#newGroup();
    this.names.set(name, [...(this.names.get(name) ?? []), slot]);
    return slot;
  }

  #newGroup(): number {
    if (++this.#groups > MAX_GROUPS) throw this.#wrong(`more than ${MAX_GROUPS} groups`);
    return this.#groups;
  }

  #peek(): string | undefined {
    return this.#atoms[this.#at];
  }

  #take(atom: string): boolean {
    if (this.#peek() !== atom) return false;
    this.#at++;
    return true;
  }
}

/** How often an operator of repetition takes what stands before it. */
function countOf(atom: string): { min: number; max: number | undefined } | undefined {
  if (atom === '*') return { min: 0, max: undefined };
  if (atom === '+') return { min: 1, max: undefined };
  if (atom === '?') return { min: 0, max: 1 };
  const match = /^\{(\d+)(?:(,)(\d*))?\}$/.exec(atom);
  if (!match) return undefined;
  const min = Number(match[1]);
  return { min, max: !match[2] ? min : match[3] === '' ? undefined : Number(match[3]) };
}

class Emitter {
  readonly #out: Instruction[] = [];
  #visits = 0;

  whole(body: Node): readonly Instruction[] {
    this.#emit(body);
    this.#out.push({ kind: 'match' });
    return this.#out;
  }

  #emit(node: Node): void {
    // What repeats nothing adds no instruction, but takes its time all the same.
    if (++this.#visits > MAX_PROGRAM || this.#out.length > MAX_PROGRAM)
      throw new GoSyntaxError('expression is too large');
    if (node.kind === 'leaf') this.#out.push(node.step);
    else if (node.kind === 'all') for (const part of node.parts) this.#emit(part);
    else if (node.kind === 'any') this.#any(node.parts);
    else if (node.kind === 'repeat') this.#repeat(node);
    else {
      this.#out.push({ kind: 'save', slot: 2 * node.slot });
      this.#emit(node.body);
      this.#out.push({ kind: 'save', slot: 2 * node.slot + 1 });
    }
  }

  #any(parts: readonly Node[]): void {
    const ends: { to: number }[] = [];
    for (const [index, part] of parts.entries()) {
      const split = index < parts.length - 1 ? this.#split() : undefined;
      this.#emit(part);
      if (!split) continue;
      const end = { kind: 'jump' as const, to: 0 };
      this.#out.push(end);
      ends.push(end);
      split.second = this.#out.length;
    }
    for (const end of ends) end.to = this.#out.length;
  }

  #repeat({ body, min, max, lazy }: Node & { kind: 'repeat' }): void {
    for (let left = min; left > 0; left--) this.#emit(body);
    const skips: { first: number; second: number }[] = [];
    for (let left = (max ?? min + 1) - min; left > 0; left--) {
      const start = this.#out.length;
      skips.push(this.#split());
      this.#emit(body);
      if (max === undefined) this.#out.push({ kind: 'jump', to: start });
    }
    for (const skip of skips) {
      skip.second = this.#out.length;
      if (lazy) [skip.first, skip.second] = [skip.second, skip.first];
    }
  }

  /** Goes on with what follows first. */
  #split(): { first: number; second: number } {
    const split = { kind: 'split' as const, first: this.#out.length + 1, second: 0 };
    this.#out.push(split);
    return split;
  }
}
