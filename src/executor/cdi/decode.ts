import { BuildError } from '../../base/errors.ts';

/** Makes a typed value of one that was read from JSON or YAML; `at` is its place, for errors. */
export type Decode<T> = (value: unknown, at: string) => T;

export type DecodedOf<D> = D extends Decode<infer T> ? T : never;

function refuse(at: string, wanted: string): never {
  throw new BuildError(`${at || 'the file'}: expected ${wanted}`);
}

/** YAML writes `true` and `1.1` for texts, too. */
export const text: Decode<string> = (value, at) =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : refuse(at, 'a text');

export const integer: Decode<number> = (value, at) =>
  Number.isSafeInteger(value) ? (value as number) : refuse(at, 'an integer');

/** Of 32 bits, not negative. */
export const unsigned: Decode<number> = (value, at) =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32
    ? (value as number)
    : refuse(at, 'an integer that is not negative');

export const yesOrNo: Decode<boolean> = (value, at) =>
  typeof value === 'boolean' ? value : refuse(at, 'true or false');

export function list<T>(item: Decode<T>): Decode<readonly T[]> {
  return (value, at) =>
    Array.isArray(value) ? value.map((entry, i) => item(entry, `${at}[${i}]`)) : refuse(at, 'a list');
}

export function texts(value: unknown, at: string): Readonly<Record<string, string>> {
  return Object.fromEntries(entriesOf(value, at).map(([key, entry]) => [key, text(entry, `${at}.${key}`)]));
}

type Shape = Readonly<Record<string, Decode<unknown>>>;

/** An object of known fields, each of which may be left out or be null. */
export function object<S extends Shape>(shape: S): Decode<{ readonly [K in keyof S]?: DecodedOf<S[K]> }> {
  return (value, at) => {
    const out: Record<string, unknown> = {};
    for (const [key, entry] of entriesOf(value, at)) {
      const decode = Object.hasOwn(shape, key) ? shape[key] : undefined;
      if (!decode) throw new BuildError(`unknown field ${JSON.stringify(at === '' ? key : `${at}.${key}`)}`);
      if (entry !== null) out[key] = decode(entry, at === '' ? key : `${at}.${key}`);
    }
    return out as { readonly [K in keyof S]?: DecodedOf<S[K]> };
  };
}

function entriesOf(value: unknown, at: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(at, 'an object');
  return Object.entries(value);
}
