import type { Digest } from './digest-type.ts';
import { createHash, type Hash, hash } from 'node:crypto';

export type { Digest } from './digest-type.ts';

const LENGTHS: Readonly<Record<string, number | undefined>> = { sha256: 64, sha384: 96, sha512: 128 };
/** Of digests of any algorithm. */
const FORMAT = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/;

/** Of a known algorithm, with as many hex digits as it has. */
export function isDigest(text: string): text is Digest {
  const colon = text.indexOf(':');
  if (colon < 0) return false;
  const length = LENGTHS[text.slice(0, colon)];
  return (
    length !== undefined && text.length === colon + 1 + length && /^[0-9a-f]+$/.test(text.slice(colon + 1))
  );
}

/** Why `text` is no digest, in the words of the digest libraries; undefined for a good one. */
export function digestProblem(text: string): string | undefined {
  if (isDigest(text)) return undefined;
  const format = 'invalid checksum digest format';
  const colon = text.indexOf(':');
  if (colon <= 0 || colon === text.length - 1) return format;
  const length = LENGTHS[text.slice(0, colon)];
  if (length === undefined) return FORMAT.test(text) ? 'unsupported digest algorithm' : format;
  return text.length === colon + 1 + length ? format : 'invalid checksum digest length';
}

/** @throws {TypeError} when `text` is no digest of a known algorithm. */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new TypeError(`invalid digest: ${JSON.stringify(text)}`);
  return text;
}

/** sha256 of all of `data`; a text is taken as UTF-8. */
export function digestOf(data: string | Uint8Array): Digest {
  return `sha256:${hash('sha256', data)}` as Digest;
}

/** The hex part. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** The part before the colon. */
export function digestAlgorithm(digest: string): string {
  return digest.slice(0, digest.indexOf(':'));
}

/** Running hash over chunks, sha256 unless another is named. */
export class Digester {
  readonly #algorithm: string;
  readonly #hash: Hash;

  constructor(algorithm: string = 'sha256') {
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  update(data: Uint8Array | string): this {
    this.#hash.update(data);
    return this;
  }
  digest(): Digest {
    return `${this.#algorithm}:${this.#hash.digest('hex')}` as Digest;
  }
}
