import { invalidArgument } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';

const ESCAPES: Readonly<Record<string, string>> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};

/** The characters that Go's encoder escapes and ours does not; outside of strings they do not occur in JSON. */
function goEscapes(json: string): string {
  return json.replace(/[<>&\u2028\u2029]/g, (c) => ESCAPES[c]!);
}

/** Order of the UTF-8 bytes, which is that of the code points (not of UTF-16 units). */
function compareCodePoints(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * The fields of a JSON object with the text of their values as written (compact), so that what nobody here
 * understands passes through unchanged: key order, number forms, repeated keys further down. Of repeated keys
 * at the top the last one counts. @throws invalidArgument
 */
export function rawFields(json: string): Map<string, string> | null {
  const whole = parse(json);
  if (whole === null) return null;
  if (typeof whole !== 'object' || Array.isArray(whole)) throw invalidArgument('JSON value is no object');
  const text = compact(json);
  const fields = new Map<string, string>();
  let at = 1;
  while (text[at] !== '}') {
    const keyEnd = stringEnd(text, at);
    const valueEnd = endOfValue(text, keyEnd + 1);
    fields.set(JSON.parse(text.slice(at, keyEnd)), text.slice(keyEnd + 1, valueEnd));
    at = text[valueEnd] === ',' ? valueEnd + 1 : valueEnd;
  }
  return fields;
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw invalidArgument(cause instanceof Error ? cause.message : 'invalid JSON', cause);
  }
}

/** The text without white space between its tokens, escaped as Go does. @throws invalidArgument */
export function compactJson(json: string): string {
  parse(json);
  return compact(json);
}

/** Compact JSON with each level on lines of its own, as Go's MarshalIndent sets it. */
export function indentJson(json: string, indent: string): string {
  const out: string[] = [];
  let line = '\n';
  for (let at = 0; at < json.length; ) {
    const c = json[at]!;
    if (c === '"') {
      const end = stringEnd(json, at);
      out.push(json.slice(at, end));
      at = end;
      continue;
    }
    at++;
    if (c === '{' || c === '[') {
      const isEmpty = json[at] === '}' || json[at] === ']';
      if (isEmpty) out.push(c, json[at++]!);
      else out.push(c, (line += indent));
    } else if (c === '}' || c === ']') {
      line = line.slice(0, line.length - indent.length);
      out.push(line, c);
    } else if (c === ',') out.push(c, line);
    else out.push(c === ':' ? ': ' : c);
  }
  return out.join('');
}

/** The object of these fields, keys sorted. */
export function joinRawFields(fields: ReadonlyMap<string, string>): string {
  const keys = [...fields.keys()].sort(compareCodePoints);
  return `{${keys.map((key) => `${goJson(key)}:${fields.get(key)}`).join(',')}}`;
}

/** Valid JSON without white space between tokens, escaped as Go does. */
function compact(json: string): string {
  let out = '';
  let from = 0;
  for (let at = 0; at < json.length; ) {
    const c = json.charCodeAt(at);
    if (c === QUOTE) at = stringEnd(json, at);
    else if (c <= SPACE) {
      out += json.slice(from, at);
      from = ++at;
    } else at++;
  }
  return goEscapes(out + json.slice(from));
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;

/** Index after the string that starts at `at`. */
function stringEnd(json: string, at: number): number {
  for (at++; json.charCodeAt(at) !== QUOTE; at++) if (json.charCodeAt(at) === BACKSLASH) at++;
  return at + 1;
}

/** Index after the value that starts at `at` of compact JSON. */
function endOfValue(json: string, at: number): number {
  let depth = 0;
  while (at < json.length) {
    const c = json[at]!;
    if (c === '"') {
      at = stringEnd(json, at);
      continue;
    }
    if (depth === 0 && (c === ',' || c === '}')) return at;
    if (c === '{' || c === '[') depth++;
    if (c === '}' || c === ']') depth--;
    at++;
  }
  return at;
}
