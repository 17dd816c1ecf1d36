import { createHash, createPublicKey, createVerify, type KeyObject, verify } from 'node:crypto';
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

/** A signature whose data comes in pieces. */
export interface SignatureCheck {
  update(data: Uint8Array): void;
  /** Ends the check. Numbers that make no key or signature are no signature. */
  verifies(): boolean;
}

/** With Ed25519 it is the data's hash that is signed, as OpenPGP has it. */
export function startCheck(key: KeyNumbers, numbers: SignatureNumbers, hash: string): SignatureCheck {
  if (key.kind === 'ed25519') {
    const hasher = createHash(hash);
    return {
      update: (data) => void hasher.update(data),
      verifies: () => verifiesEd25519(key, numbers, hasher.digest()),
    };
  }
  const check = createVerify(hash);
  const [r = new Uint8Array(), s = new Uint8Array()] = numbers;
  return {
    update: (data) => void check.update(data),
    verifies: () => {
      try {
        const object = keyObject(key);
        if (key.kind === 'rsa') return check.verify(object, padded(r, bitsOf(key.n) / 8));
        const size = FIELD_BYTES[key.curve];
        const signature = Buffer.concat([padded(r, size), padded(s, size)]);
        return check.verify({ key: object, dsaEncoding: 'ieee-p1363' }, signature);
      } catch {
        return false; // bytes that are no key or no signature
      }
    },
  };
}

/** Whether the signature is one of `data`; with Ed25519 of the data itself, as ssh has it. */
export function verifies(
  key: KeyNumbers,
  numbers: SignatureNumbers,
  data: Uint8Array,
  hash: string,
): boolean {
  if (key.kind === 'ed25519') return verifiesEd25519(key, numbers, data);
  const check = startCheck(key, numbers, hash);
  check.update(data);
  return check.verifies();
}

function verifiesEd25519(key: KeyNumbers, numbers: SignatureNumbers, data: Uint8Array): boolean {
  const [r = new Uint8Array(), s = new Uint8Array()] = numbers;
  try {
    return verify(
      null,
      data,
      keyObject(key),
      Buffer.concat([padded(r, ED25519_BYTES), padded(s, ED25519_BYTES)]),
    );
  } catch {
    return false; // bytes that are no key or no signature
  }
}

/** Size of a number in bits, in whole bytes. */
export function bitsOf(number: Uint8Array): number {
  const start = number.findIndex((byte) => byte !== 0);
  return start < 0 ? 0 : (number.length - start) * 8;
}
