import { BuildError } from '../../base/errors.ts';

/**
 * The fields of one comma-separated record with `"` quotes (RFC 4180). Columns in errors count bytes
 * from 1.
 * @throws {BuildError} `EOF` for an empty record
 */
export function csvFields(record: string): string[] {
  const line = record.replace(/\r?\n$/, '');
  if (line === '') throw new BuildError('EOF');
  const fields: string[] = [];
  for (let at = 0; ; at++) {
    const field = line[at] === '"' ? quotedField(line, at) : plainField(line, at);
    fields.push(field.text);
    at = field.end;
    if (at >= line.length) return fields;
  }
}

function plainField(line: string, at: number): { text: string; end: number } {
  const comma = line.indexOf(',', at);
  const end = comma < 0 ? line.length : comma;
  const text = line.slice(at, end);
  const bare = text.indexOf('"');
  if (bare >= 0) throw csvError(line, at + bare, 'bare " in non-quoted-field');
  return { text, end };
}

function quotedField(line: string, at: number): { text: string; end: number } {
  let text = '';
  for (let from = at + 1; ; ) {
    const close = line.indexOf('"', from);
    if (close < 0) throw csvError(line, from, 'extraneous or missing " in quoted-field');
    text += line.slice(from, close);
    const next = line[close + 1];
    if (next === undefined || next === ',') return { text, end: close + 1 };
    if (next !== '"') throw csvError(line, close, 'extraneous or missing " in quoted-field');
    text += '"';
    from = close + 2;
  }
}

function csvError(line: string, at: number, problem: string): BuildError {
  const column = Buffer.byteLength(line.slice(0, at)) + 1;
  return new BuildError(`parse error on line 1, column ${column}: ${problem}`);
}
