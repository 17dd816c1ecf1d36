/**
 * JSON as Go's encoding/json writes it, byte for byte: cache keys, image configs and manifests are named by
 * the digest of such text.
 *
 * Values: an object is a struct, its fields in the order in which they stand; fields that are `undefined` are
 * left out, so `omitEmpty(value)` is Go's `omitempty`. A `Map` is a Go map: keys sorted by bytes. A
 * `Uint8Array` is base64 text. `null` is a nil pointer, slice or map. A `bigint` is a plain number.
 * Text escapes `<`, `>`, `&`, U+2028 and U+2029; half a surrogate pair becomes `\ufffd`.
 */
export function goJson(value: unknown): string {
  const out: string[] = [];
  write(value, out, undefined, '');
  return out.join('');
}

/** Go's MarshalIndent: `indent` for each level, each line after the first starts with `prefix`. */
export function goJsonIndent(value: unknown, indent: string, prefix = ''): string {
  const out: string[] = [];
  write(value, out, indent, `\n${prefix}`);
  return out.join('');
}

/** `undefined` for false, 0, '', null, and lists, bytes and maps without elements. */
export function omitEmpty<T>(value: T): T | undefined {
  return isEmpty(value) ? undefined : value;
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === '') return true;
  if (value === 0 || value === 0n) return true;
  if (Array.isArray(value) || value instanceof Uint8Array) return value.length === 0;
  return value instanceof Map && value.size === 0;
}

/** One field of a struct: where its value comes from and whether it is left out when empty. */
export interface GoField<T> {
  readonly name: string;
  readonly value: (of: T) => unknown;
  readonly omitEmpty: boolean;
}

/** A field that is always there. */
export function field<T>(name: string, value: (of: T) => unknown): GoField<T> {
  return { name, value, omitEmpty: false };
}

/** A field that is left out when empty. */
export function optional<T>(name: string, value: (of: T) => unknown): GoField<T> {
  return { name, value, omitEmpty: true };
}

/** The struct with these fields in this order; null and undefined stay null. */
export function goStruct<T>(
  ...fields: readonly GoField<T>[]
): (of: T | null | undefined) => Record<string, unknown> | null {
  return (of) => {
    if (of === null || of === undefined) return null;
    const struct: Record<string, unknown> = {};
    for (const { name, value, omitEmpty: omit } of fields) {
      const v = value(of);
      if (!omit || !isEmpty(v)) struct[name] = v ?? null;
    }
    return struct;
  };
}

/** A Go map of the entries of an object. */
export function goMap(entries: Readonly<Record<string, unknown>>): Map<string, unknown> {
  return new Map(Object.entries(entries));
}

/** A parsed JSON value with every object as a Go map, as what Go has decoded without knowing its type. */
export function goAny(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(goAny);
  if (value === null || typeof value !== 'object') return value;
  return new Map(Object.entries(value).map(([key, one]) => [key, goAny(one)]));
}

function write(value: unknown, out: string[], indent: string | undefined, line: string): void {
  if (value === null || value === undefined) out.push('null');
  else if (typeof value === 'string') out.push(quote(value));
  else if (typeof value === 'boolean' || typeof value === 'bigint') out.push(String(value));
  else if (typeof value === 'number') out.push(number(value));
  else if (value instanceof Uint8Array) out.push(`"${Buffer.from(value).toString('base64')}"`);
  else if (Array.isArray(value))
    writeAll(
      '[]',
      value.map((v) => ['', v] as const),
      out,
      indent,
      line,
    );
  else if (value instanceof Map) {
    const entries = [...(value as Map<string, unknown>)].sort(([a], [b]) => compare(a, b));
    writeAll(
      '{}',
      entries.map(([k, v]) => [quote(k), v] as const),
      out,
      indent,
      line,
    );
  } else if (typeof value === 'object') {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined);
    writeAll(
      '{}',
      entries.map(([k, v]) => [quote(k), v] as const),
      out,
      indent,
      line,
    );
  } else throw new TypeError(`json: unsupported type: ${typeof value}`);
}

function writeAll(
  brackets: string,
  items: readonly (readonly [key: string, value: unknown])[],
  out: string[],
  indent: string | undefined,
  line: string,
): void {
  const inner = indent === undefined ? '' : line + indent;
  out.push(brackets[0] ?? '');
  items.forEach(([key, value], i) => {
    out.push(i === 0 ? inner : `,${inner}`);
    if (key !== '') out.push(key, indent === undefined ? ':' : ': ');
    write(value, out, indent, inner);
  });
  if (items.length > 0 && indent !== undefined) out.push(line);
  out.push(brackets[1] ?? '');
}

function number(value: number): string {
  if (!Number.isFinite(value)) throw new TypeError(`json: unsupported value: ${value}`);
  return Object.is(value, -0) ? '-0' : String(value);
}

const SHORT: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

function quote(text: string): string {
  return `"${text.replace(/["\\\u0000-\u001f<>&\u2028\u2029]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, escapeChar)}"`;
}

function escapeChar(char: string): string {
  const short = SHORT[char];
  if (short) return short;
  const code = char.charCodeAt(0);
  if (code >= 0xd800 && code <= 0xdfff) return '\\ufffd';
  return `\\u${code.toString(16).padStart(4, '0')}`;
}

function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
