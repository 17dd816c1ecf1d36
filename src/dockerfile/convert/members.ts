import { BuildError } from '../../base/errors.ts';

const RFC3339 = /^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:[.,](\d+))?([Zz]|[+-]\d\d:\d\d)$/;
const NANO_DIGITS = 9;

/** Typed, tolerant access to a JSON object of an image: absent and null members read as empty. */
export class Members {
  readonly #members: ReadonlyMap<string, unknown>;
  readonly #path: string;

  private constructor(members: ReadonlyMap<string, unknown>, path: string) {
    this.#members = members;
    this.#path = path;
  }

  static of(value: unknown, path: string): Members {
    if (value === undefined || value === null) return new Members(new Map(), path);
    if (typeof value !== 'object' || Array.isArray(value)) throw typeError(path, 'object');
    // Names count in any case; of several the last one counts.
    const members = new Map<string, unknown>();
    for (const [key, item] of Object.entries(value)) {
      if (item !== null) members.set(key.toLowerCase(), item);
    }
    return new Members(members, path);
  }

  has(key: string): boolean {
    const value = this.#get(key);
    return value !== undefined && value !== null;
  }

  string(key: string): string {
    return this.#typed(key, 'string', '');
  }

  bool(key: string): boolean {
    return this.#typed(key, 'boolean', false);
  }

  integer(key: string): bigint {
    const value = this.#typed(key, 'number', 0);
    if (!Number.isInteger(value)) throw typeError(this.#at(key), 'integer');
    return BigInt(value);
  }

  strings(key: string): string[] {
    return this.#list(key).map((item) => {
      if (typeof item !== 'string' && item !== null) throw typeError(this.#at(key), 'string');
      return item ?? '';
    });
  }

  objects(key: string): Members[] {
    return this.#list(key).map((item) => Members.of(item, this.#at(key)));
  }

  object(key: string): Members {
    return Members.of(this.#get(key), this.#at(key));
  }

  optional(key: string): Members | undefined {
    return this.has(key) ? this.object(key) : undefined;
  }

  keys(key: string): string[] {
    const value = this.#get(key);
    if (value === undefined || value === null) return [];
    if (typeof value !== 'object' || Array.isArray(value)) throw typeError(this.#at(key), 'object');
    return Object.keys(value);
  }

  /** The names of a set: a table of empty objects. */
  set(key: string): string[] {
    const names = this.keys(key);
    for (const name of names) Members.of((this.#get(key) as Record<string, unknown>)[name], this.#at(key));
    return names;
  }

  stringMap(key: string): Map<string, string> {
    const value = this.#get(key);
    return new Map(
      this.keys(key).map((name) => {
        const item = (value as Record<string, unknown>)[name];
        if (typeof item !== 'string' && item !== null) throw typeError(this.#at(key), 'string');
        return [name, item ?? ''];
      }),
    );
  }

  /** RFC 3339 in its shortest form. */
  time(key: string): string | undefined {
    if (!this.has(key)) return undefined;
    const value = this.string(key);
    const match = RFC3339.exec(value);
    if (!match) throw new BuildError(`invalid time ${JSON.stringify(value)} in ${this.#at(key)}`);
    const fraction = (match[2] ?? '').slice(0, NANO_DIGITS).replace(/0+$/, '');
    const zone = /^[+-]00:00$/.test(match[3]!) ? 'Z' : match[3]!.toUpperCase();
    return `${match[1]!.toUpperCase()}${fraction === '' ? '' : `.${fraction}`}${zone}`;
  }

  #list(key: string): readonly unknown[] {
    const value = this.#get(key) ?? [];
    if (!Array.isArray(value)) throw typeError(this.#at(key), 'array');
    return value;
  }

  #typed<T>(key: string, type: 'string' | 'boolean' | 'number', absent: T): T {
    const value = this.#get(key);
    if (value === undefined || value === null) return absent;
    if (typeof value !== type) throw typeError(this.#at(key), type);
    return value as T;
  }

  #get(key: string): unknown {
    return this.#members.get(key.toLowerCase());
  }

  #at(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`;
  }
}

function typeError(path: string, type: string): BuildError {
  return new BuildError(`image config: ${path || 'the whole'} is not of type ${type}`);
}
