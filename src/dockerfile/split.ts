import { decodeText, encodeText } from './bytes.ts';
import { BuildError } from '../base/errors.ts';
import type { KeyValue, NodeArgs, ParsedLine } from './ast.ts';
import { cut, isSpace, lower, quote, splitBlanks, trim, trimStart, upper } from './text.ts';

type ArgsParser = (rest: string, escapeChar: string) => NodeArgs;

const words = (...list: string[]): NodeArgs => ({ kind: 'words', words: list });

/** How the text behind each instruction word is split. */
const ARGS: Readonly<Record<string, ArgsParser>> = {
  add: jsonOrList,
  arg: (rest, escapeChar) => words(...shellWords(rest, escapeChar)),
  cmd: jsonOrText,
  copy: jsonOrList,
  entrypoint: jsonOrText,
  env: (rest, escapeChar) => ({ kind: 'pairs', pairs: keyValues(rest, 'ENV', escapeChar) }),
  expose: list,
  from: list,
  healthcheck,
  label: (rest, escapeChar) => ({ kind: 'pairs', pairs: keyValues(rest, 'LABEL', escapeChar) }),
  maintainer: text,
  onbuild: (rest, escapeChar) =>
    rest === '' ? words() : { kind: 'trigger', trigger: parseLine(rest, escapeChar) },
  run: jsonOrText,
  shell: jsonOrText,
  stopsignal: text,
  user: text,
  volume: jsonOrList,
  workdir: text,
};

export const instructionNames: readonly string[] = Object.keys(ARGS).map((name) => upper(name));

/** Splits one joined line into instruction word, flags and arguments. */
export function parseLine(original: string, escapeChar: string): ParsedLine {
  const [name = '', afterName] = splitBlanks(trim(original), 2);
  const { flags, rest } =
    afterName === undefined ? { flags: [], rest: '' } : takeFlags(afterName, escapeChar);
  const parse = Object.hasOwn(ARGS, lower(name)) ? ARGS[lower(name)]! : () => words('');
  return { name, flags, args: parse(trim(rest), escapeChar), original };
}

/**
 * Takes the words that start with `--`. Works on bytes, as files have come to rely on: a flag with
 * characters outside ASCII reaches its instruction byte by byte.
 */
export function takeFlags(line: string, escapeChar: string): { flags: string[]; rest: string } {
  const bytes = encodeText(line).toString('latin1');
  const rest = (from: number) => decodeText(Buffer.from(bytes.slice(from), 'latin1'));
  const flags: string[] = [];
  for (let at = 0; ; ) {
    while (at < bytes.length && isSpace(bytes[at]!)) at++;
    if (at === bytes.length) return { flags, rest: '' };
    if (!bytes.startsWith('--', at)) return { flags, rest: rest(at) };
    const word = takeFlagWord(bytes, at, escapeChar);
    at = word.end;
    if (word.text === '--') return { flags, rest: rest(at) };
    flags.push(word.text);
  }
}

function takeFlagWord(bytes: string, at: number, escapeChar: string): { text: string; end: number } {
  let text = '';
  let quoted: string | undefined;
  for (; at < bytes.length; at++) {
    const char = bytes[at]!;
    if (quoted === undefined && isSpace(char)) break;
    if (quoted === undefined && (char === "'" || char === '"')) quoted = char;
    else if (char === quoted) quoted = undefined;
    else if (char !== escapeChar) text += char;
    else if (at + 1 < bytes.length) text += bytes[++at]!;
    else quoted = undefined;
  }
  return { text, end: at };
}

/** Words split at blanks outside quotes; quotes and escapes stay for expansion to remove. */
export function shellWords(rest: string, escapeChar: string): string[] {
  const characters = [...rest.toWellFormed()];
  const found: string[] = [];
  for (let at = 0; ; ) {
    while (at < characters.length && isSpace(characters[at]!)) at++;
    if (at === characters.length) return found;
    const word = takeShellWord(characters, at, escapeChar);
    at = word.end;
    if (word.text !== '') found.push(word.text);
  }
}

function takeShellWord(
  characters: readonly string[],
  at: number,
  escapeChar: string,
): { text: string; end: number } {
  let out = '';
  let quoted: string | undefined;
  for (; at < characters.length; at++) {
    const char = characters[at]!;
    if (quoted === undefined && isSpace(char)) break;
    if (quoted === undefined && (char === "'" || char === '"')) quoted = char;
    else if (char === quoted) quoted = undefined;
    if (char !== escapeChar || quoted === "'") out += char;
    else if (at + 1 < characters.length) out += char + characters[++at]!;
  }
  return { text: out, end: at };
}

function keyValues(rest: string, instruction: string, escapeChar: string): KeyValue[] {
  const found = shellWords(rest, escapeChar);
  const first = found[0];
  if (first === undefined) return [];
  if (!first.includes('=')) {
    const [key = '', value] = splitBlanks(rest, 2);
    if (value === undefined) throw new BuildError(`${instruction} must have two arguments`);
    return [{ key, value, legacy: true }];
  }
  return found.map((word) => {
    const [key, value] = cut(word, '=');
    if (value === undefined)
      throw new BuildError(`Syntax error - can't find = in ${quote(word)}. Must be of the form: name=value`);
    return { key, value, legacy: false };
  });
}

function list(rest: string): NodeArgs {
  return rest === '' ? words() : words(...splitBlanks(rest));
}

function text(rest: string): NodeArgs {
  return rest === '' ? words() : words(rest);
}

function jsonOrList(rest: string): NodeArgs {
  return jsonArray(rest) ?? list(rest);
}

function jsonOrText(rest: string): NodeArgs {
  return jsonArray(rest) ?? text(rest);
}

function healthcheck(rest: string): NodeArgs {
  if (rest === '') return words();
  const [type, command] = firstWord(rest, jsonOrText);
  return command.kind === 'json'
    ? { kind: 'json', words: [type, ...command.words] }
    : { kind: 'words', words: [type, ...(command.kind === 'words' ? command.words : [])] };
}

/** Splits behind the first word, at bytes as `takeFlags` does: some blanks are parts of other characters. */
function firstWord<T>(text: string, read: (rest: string) => T): [word: string, rest: T] {
  const bytes = encodeText(text).toString('latin1');
  let end = 0;
  while (end < bytes.length && !isSpace(bytes[end]!)) end++;
  let next = end;
  while (next < bytes.length && isSpace(bytes[next]!)) next++;
  const utf8 = (from: number, to?: number) => decodeText(Buffer.from(bytes.slice(from, to), 'latin1'));
  return [utf8(0, end), read(utf8(next))];
}

/** Undefined for anything that is no JSON array: that is then the shell form. */
function jsonArray(rest: string): NodeArgs | undefined {
  const source = trimStart(rest);
  if (!source.startsWith('[')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(source.toWellFormed(), (_, member: unknown) => {
      if (typeof member === 'number' && !Number.isFinite(member)) throw new RangeError('number out of range');
      return member;
    });
  } catch {
    return undefined; // shell form
  }
  if (!Array.isArray(value)) return undefined;
  if (!value.every((member) => typeof member === 'string'))
    throw new BuildError('when using JSON array syntax, arrays must be comprised of strings only');
  return { kind: 'json', words: value };
}
