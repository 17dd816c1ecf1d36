import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { padded } from './bytes.ts';

export type EcCurve = 'P-256' | 'P-384' | 'P-521' | 'secp256k1';

const FIELD_BYTES: Readonly<Record<EcCurve, number>> = {
  'P-256': 32,
  'P-384': 48,
  'P-521': 66,
  secp256k1: 32,
};
const ED25519_BYTES = 32;

/** A public key by its numbers. */
export type KeyNumbers =
  | { readonly kind: 'rsa'; readonly n: Uint8Array; readonly e: Uint8Array }
  /** `point` is uncompressed: 4, x, y. */
  | { readonly kind: 'ecdsa'; readonly curve: EcCurve; readonly point: Uint8Array }
  | { readonly kind: 'ed25519'; readonly point: Uint8Array };

/** A signature by its numbers: one of RSA, `r` and `s` of the others. */
export type SignatureNumbers = readonly Uint8Array[];

function keyObject(key: KeyNumbers): KeyObject {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  if (key.kind === 'rsa')
    return createPublicKey({ format: 'jwk', key: { kty: 'RSA', n: text(key.n), e: text(key.e) } });
  if (key.kind === 'ed25519')
    return createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x: text(key.point) } });
  const size = FIELD_BYTES[key.curve];
  if (key.point[0] !== 4 || key.point.length !== 1 + 2 * size) throw new Error('point is not uncompressed');
  const x = key.point.subarray(1, 1 + size);
  const y = key.point.subarray(1 + size);
  return createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: key.curve, x: text(x), y: text(y) } });
}

/**
 * Whether the signature is one of `data`. `prehashed`: Ed25519 signs the data's hash, as OpenPGP has it; without
 * it the data itself, as ssh has it. Numbers that make no key or signature are no signature.
 */
export function verifies(
  key: KeyNumbers,
  numbers: SignatureNumbers,
  data: Uint8Array,
  options: { readonly hash: string; readonly prehashed?: boolean },
): boolean {
  try {
    const object = keyObject(key);
    const [r = new Uint8Array(), s = new Uint8Array()] = numbers;
    if (key.kind === 'rsa') return verify(options.hash, data, object, padded(r, bitsOf(key.n) / 8));
    if (key.kind === 'ecdsa') {
      const size = FIELD_BYTES[key.curve];
      const signature = Buffer.concat([padded(r, size), padded(s, size)]);
      return verify(options.hash, data, { key: object, dsaEncoding: 'ieee-p1363' }, signature);
    }
    const signature = Buffer.concat([padded(r, ED25519_BYTES), padded(s, ED25519_BYTES)]);
    const signed = options.prehashed ? createHash(options.hash).update(data).digest() : data;
    return verify(null, signed, object, signature);
  } catch {
    return false; // bytes that are no key or no signature
  }
}

/** Size of a number in bits, in whole bytes. */
export function bitsOf(number: Uint8Array): number {
  const start = number.findIndex((byte) => byte !== 0);
  return start < 0 ? 0 : (number.length - start) * 8;
}
