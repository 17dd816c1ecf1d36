import { invalidArgument } from '../base/errors.ts';

/** One record of comma-separated values (RFC 4180 quoting), as `--output` and its like are written. */
export function csvFields(text: string, separator = ','): string[] {
  if (text === '') return [];
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    let field = '';
    if (text[at] === '"') {
      const end = closingQuote(text, at + 1);
      field = text.slice(at + 1, end).replaceAll('""', '"');
      at = end + 1;
      if (at < text.length && text[at] !== separator)
        throw invalidArgument('parse error: extraneous or missing " in quoted-field');
    } else {
      const next = text.indexOf(separator, at);
      field = text.slice(at, next < 0 ? text.length : next);
      if (field.includes('"')) throw invalidArgument('parse error: bare " in non-quoted-field');
      at += field.length;
    }
    fields.push(field);
    if (at >= text.length) return fields;
    at++;
  }
}

function closingQuote(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    if (text[at] !== '"') continue;
    if (text[at + 1] !== '"') return at;
    at++;
  }
  throw invalidArgument('parse error: extraneous or missing " in quoted-field');
}

/** `key=value` fields; keys in lower case. `bad` makes the error of a field without `=`. */
export function csvPairs(
  text: string,
  bad: (field: string) => string,
): [key: string, value: string, field: string][] {
  return csvFields(text).map((field) => {
    const at = field.indexOf('=');
    if (at < 0) throw invalidArgument(bad(field));
    return [field.slice(0, at).toLowerCase(), field.slice(at + 1), field];
  });
}
