/** What `encodeJson` takes. Members that are undefined are left out; bigint is a plain number. */
export type Json =
  | string
  | number
  | bigint
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json | undefined };

/**
 * JSON bytes as Go's encoder writes them: no blanks, `<`, `>`, `&` and the two line separators escaped,
 * members in the order given. Image configs are compared by these bytes.
 */
export function encodeJson(value: Json): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return JSON.stringify(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'string') return encodeString(value);
  if (Array.isArray(value)) return `[${value.map(encodeJson).join(',')}]`;
  const members = Object.entries(value)
    .filter((entry): entry is [string, Json] => entry[1] !== undefined)
    .map(([key, member]) => `${encodeString(key)}:${encodeJson(member)}`);
  return `{${members.join(',')}}`;
}

function encodeString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    /[<>&\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A map as JSON object with sorted keys; undefined when it is empty. */
export function sortedObject<T>(map: ReadonlyMap<string, T>, value: (item: T) => Json): Json | undefined {
  if (map.size === 0) return undefined;
  const keys = [...map.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return Object.fromEntries(keys.map((key) => [key, value(map.get(key)!)]));
}
