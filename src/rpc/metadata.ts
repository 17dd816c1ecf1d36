import { BuildError, Code } from '../base/errors.ts';

/** Headers that belong to HTTP or to gRPC itself and never appear as metadata. */
const RESERVED = new Set([
  'content-type',
  'te',
  'grpc-timeout',
  'grpc-encoding',
  'grpc-accept-encoding',
  'connection',
]);
const STATUS = new Set(['grpc-status', 'grpc-message', 'grpc-status-details-bin']);
const UNPRINTABLE = /[^\x20-\x7e]/;

/** Call metadata: ordered pairs, lower-case keys, repeated keys allowed. Values of `-bin` keys are base64 text. */
export class Metadata {
  readonly #pairs: [string, string][] = [];

  /** From an object; an array makes a repeated key. */
  static of(values: Readonly<Record<string, string | readonly string[]>>): Metadata {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(values)) {
      if (typeof value === 'string') metadata.append(key, value);
      else for (const one of value) metadata.append(key, one);
    }
    return metadata;
  }

  /** From a raw header list (name, value, name, value…): pseudo headers, HTTP's and gRPC's own are left out. */
  static fromRaw(raw: readonly string[]): Metadata {
    const metadata = new Metadata();
    for (let i = 0; i + 1 < raw.length; i += 2) {
      const key = (raw[i] as string).toLowerCase();
      if (key.startsWith(':') || RESERVED.has(key) || STATUS.has(key)) continue;
      metadata.#pairs.push([key, raw[i + 1] as string]);
    }
    return metadata;
  }

  append(key: string, value: string): this {
    this.#pairs.push([key.toLowerCase(), value]);
    return this;
  }

  /** First value of `key`. */
  get(key: string): string | undefined {
    const lower = key.toLowerCase();
    return this.#pairs.find(([k]) => k === lower)?.[1];
  }

  getAll(key: string): string[] {
    const lower = key.toLowerCase();
    return this.#pairs.filter(([k]) => k === lower).map(([, v]) => v);
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  get size(): number {
    return this.#pairs.length;
  }

  [Symbol.iterator](): IterableIterator<readonly [string, string]> {
    return this.#pairs.values();
  }

  /**
   * Adds the pairs to a flat header list.
   * @throws BuildError (internal) for a value with characters that headers cannot carry.
   */
  writeTo(headers: string[]): void {
    for (const [key, value] of this.#pairs) {
      if (UNPRINTABLE.test(value))
        throw new BuildError(
          `header key ${JSON.stringify(key)} contains value with non-printable ASCII characters`,
          {
            code: Code.internal,
          },
        );
      headers.push(key, value);
    }
  }
}

/** First value of a header in a raw list. */
export function rawHeader(raw: readonly string[], name: string): string | undefined {
  for (let i = 0; i + 1 < raw.length; i += 2)
    if ((raw[i] as string).toLowerCase() === name) return raw[i + 1];
  return undefined;
}
