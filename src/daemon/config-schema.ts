import { invalidArgument } from '../base/errors.ts';
import { closest } from '../dockerfile/suggest.ts';

/**
 * Turns the tables of a configuration file into typed values. A decoder refuses a bad value with
 * the key's name; what is merely odd goes to `warn`.
 */
export type Decoder<T> = (value: unknown, key: string, warn: (text: string) => void) => T;

export type Decoded<D> = D extends Decoder<infer T> ? T : never;

function refuse(value: unknown, key: string, wanted: string): never {
  throw invalidArgument(`invalid configuration: ${key}: expected ${wanted}, got ${show(value)}`);
}

function show(value: unknown): string {
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object' && value !== null) return value instanceof Date ? 'a date' : 'a table';
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}

export const string: Decoder<string> = (value, key) =>
  typeof value === 'string' ? value : refuse(value, key, 'a string');

export const boolean: Decoder<boolean> = (value, key) =>
  typeof value === 'boolean' ? value : refuse(value, key, 'true or false');

export const integer: Decoder<number> = (value, key) =>
  typeof value === 'number' && Number.isInteger(value) ? value : refuse(value, key, 'an integer');

/** Not negative. */
export const count: Decoder<number> = (value, key, warn) => {
  const number = integer(value, key, warn);
  return number >= 0 ? number : refuse(value, key, 'an integer that is not negative');
};

export const positive: Decoder<number> = (value, key, warn) => {
  const number = integer(value, key, warn);
  return number > 0 ? number : refuse(value, key, 'an integer greater than zero');
};

export function oneOf<T extends string>(...names: readonly T[]): Decoder<T> {
  return (value, key) =>
    names.includes(value as T) ? (value as T) : refuse(value, key, `one of ${names.join(', ')}`);
}

export function listOf<T>(item: Decoder<T>): Decoder<readonly T[]> {
  return (value, key, warn) =>
    Array.isArray(value)
      ? value.map((entry, index) => item(entry, `${key}[${index}]`, warn))
      : refuse(value, key, 'an array');
}

/** A table whose keys are names of the user's. */
export function mapOf<T>(item: Decoder<T>): Decoder<Readonly<Record<string, T>>> {
  return (value, key, warn) =>
    Object.fromEntries(
      entriesOf(value, key).map(([name, entry]) => [name, item(entry, `${key}.${quoteKey(name)}`, warn)]),
    );
}

/** A table that is passed on as it is. */
export const anyTable: Decoder<Readonly<Record<string, unknown>>> = (value, key) =>
  Object.fromEntries(entriesOf(value, key));

type Shape = Readonly<Record<string, Decoder<unknown>>>;

/** A table of known keys, taken in any case. An unknown key gives a warning with the nearest name. */
export function table<S extends Shape>(shape: S): Decoder<{ readonly [K in keyof S]?: Decoded<S[K]> }> {
  const names = Object.keys(shape);
  const folded = new Map(names.map((name) => [name.toLowerCase(), name]));
  return (value, key, warn) => {
    const out: Record<string, unknown> = {};
    for (const [name, entry] of entriesOf(value, key)) {
      const path = key === '' ? quoteKey(name) : `${key}.${quoteKey(name)}`;
      const known = Object.hasOwn(shape, name) ? name : folded.get(name.toLowerCase());
      if (known !== undefined) out[known] = shape[known]!(entry, path, warn);
      else {
        const near = closest(name, names, false);
        const match = near === undefined ? undefined : (folded.get(near.toLowerCase()) ?? near);
        warn(`unknown configuration key ${path}${match === undefined ? '' : `, did you mean ${match}?`}`);
      }
    }
    return out as { readonly [K in keyof S]?: Decoded<S[K]> };
  };
}

/** A key that is understood, of a feature that does not exist yet: says so once, unless it is switched off. */
export function later<T>(decoder: Decoder<T>, feature: string): Decoder<T> {
  return (value, key, warn) => {
    const decoded = decoder(value, key, () => {});
    if (!isOff(value)) warn(`configuration key ${key} has no effect: ${feature} not built yet`);
    return decoded;
  };
}

function isOff(value: unknown): boolean {
  if (value === false || value === '' || value === 0) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && value !== null && (value as { enabled?: unknown }).enabled === false;
}

function entriesOf(value: unknown, key: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Date)
    return refuse(value, key, 'a table');
  return Object.entries(value);
}

function quoteKey(name: string): string {
  return /^[\w-]+$/.test(name) ? name : JSON.stringify(name);
}
