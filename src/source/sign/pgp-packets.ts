import { createHash } from 'node:crypto';
import { BuildError } from '../../base/errors.ts';
import { ByteReader } from './bytes.ts';
import type { EcCurve, KeyNumbers, SignatureNumbers } from './public-key.ts';

/** Packets of OpenPGP that matter here (RFC 4880 section 4.3). */
export const Tag = { signature: 2, publicKey: 6, userId: 13, publicSubkey: 14, userAttribute: 17 } as const;
/** Signature types (section 5.2.1). */
export const SignatureType = {
  binary: 0x00,
  text: 0x01,
  certifyFirst: 0x10,
  certifyLast: 0x13,
  subkeyBinding: 0x18,
  primaryBinding: 0x19,
  keyRevocation: 0x20,
  subkeyRevocation: 0x28,
  certificationRevocation: 0x30,
} as const;

export interface Packet {
  readonly tag: number;
  readonly body: Buffer;
}

/** @throws BuildError for bytes that are no packets */
export function readPackets(data: Uint8Array): Packet[] {
  const reader = new ByteReader(data);
  const packets: Packet[] = [];
  while (reader.left > 0) {
    const head = reader.u8();
    if ((head & 0x80) === 0) throw new BuildError('openpgp: invalid data: tag byte does not have MSB set');
    const isNew = (head & 0x40) !== 0;
    const tag = isNew ? head & 0x3f : (head >> 2) & 0x0f;
    packets.push({ tag, body: isNew ? newBody(reader) : oldBody(reader, head & 3) });
  }
  return packets;
}

function newBody(reader: ByteReader): Buffer {
  const length = lengthOf(reader);
  if (length === undefined) throw new BuildError('openpgp: invalid data: partial lengths are for messages');
  return reader.take(length);
}

function oldBody(reader: ByteReader, kind: number): Buffer {
  if (kind === 3) return reader.rest();
  return reader.take([() => reader.u8(), () => reader.u16(), () => reader.u32()][kind]!());
}

/** Length of a packet or subpacket; undefined for a partial one. */
function lengthOf(reader: ByteReader): number | undefined {
  const first = reader.u8();
  if (first < 192) return first;
  if (first < 224) return ((first - 192) << 8) + reader.u8() + 192;
  return first === 255 ? reader.u32() : undefined;
}

export interface PgpKey {
  /** The last eight bytes of the fingerprint, in hexadecimal capitals. */
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly algorithm: number;
  readonly body: Buffer;
  /** undefined for an algorithm that is not known. */
  readonly numbers: KeyNumbers | undefined;
}

export const Algorithm = { rsa: 1, rsaSignOnly: 3, ecdsa: 19, eddsa: 22 } as const;
const KEY_VERSION = 4;
const CURVES: Readonly<Record<string, EcCurve>> = {
  '2a8648ce3d030107': 'P-256',
  '2b81040022': 'P-384',
  '2b81040023': 'P-521',
  '2b8104000a': 'secp256k1',
};
const ED25519 = '2b06010401da470f01';

/** @throws BuildError for a version that nobody here knows */
export function parseKey(body: Buffer): PgpKey {
  const reader = new ByteReader(body);
  const version = reader.u8();
  if (version !== KEY_VERSION)
    throw new BuildError(`openpgp: unsupported feature: public key version ${version}`);
  const created = reader.u32();
  const algorithm = reader.u8();
  const fingerprint = createHash('sha1').update(keyPrefix(body)).update(body).digest('hex').toUpperCase();
  return { id: fingerprint.slice(-16), created, algorithm, body, numbers: keyNumbers(algorithm, reader) };
}

/** What stands in front of a key when it is hashed (section 5.2.4). */
export function keyPrefix(body: Uint8Array): Buffer {
  return Buffer.from([0x99, body.length >> 8, body.length & 0xff]);
}

function keyNumbers(algorithm: number, reader: ByteReader): KeyNumbers | undefined {
  if (algorithm === Algorithm.rsa || algorithm === Algorithm.rsaSignOnly)
    return { kind: 'rsa', n: reader.mpi(), e: reader.mpi() };
  if (algorithm !== Algorithm.ecdsa && algorithm !== Algorithm.eddsa) return undefined;
  const oid = reader.take(reader.u8()).toString('hex');
  const point = reader.mpi();
  if (algorithm === Algorithm.ecdsa) {
    const curve = CURVES[oid];
    return curve === undefined ? undefined : { kind: 'ecdsa', curve, point };
  }
  if (oid !== ED25519 || point[0] !== 0x40) return undefined;
  return { kind: 'ed25519', point: point.subarray(1) };
}

export interface PgpSignature {
  readonly type: number;
  readonly algorithm: number;
  /** Name of the hash in `node:crypto`; undefined for one that is not known. */
  readonly hash: string | undefined;
  readonly hashId: number;
  /** Seconds since 1970. */
  readonly created: number;
  /** Seconds until it ends, 0 = never. */
  readonly lifetime: number;
  /** Seconds from its making until the key ends, 0 = never. */
  readonly keyLifetime: number;
  readonly issuer: string | undefined;
  /** What the key may do; undefined when it does not say. */
  readonly flags: number | undefined;
  readonly isPrimary: boolean;
  readonly revocationReason: string;
  readonly embedded: PgpSignature | undefined;
  /** Hashed behind what is signed. */
  readonly suffix: Buffer;
  readonly numbers: SignatureNumbers;
}

const HASHES: Readonly<Record<number, string>> = {
  2: 'sha1',
  8: 'sha256',
  9: 'sha384',
  10: 'sha512',
  11: 'sha224',
};
const SIGNATURE_VERSION = 4;
/** Signatures inside signatures. */
const MAX_DEPTH = 1;

/** @throws BuildError */
export function parseSignature(body: Buffer, depth = 0): PgpSignature {
  const reader = new ByteReader(body);
  const version = reader.u8();
  if (version !== SIGNATURE_VERSION)
    throw new BuildError(`openpgp: unsupported feature: signature packet version ${version}`);
  const [type, algorithm, hashId] = [reader.u8(), reader.u8(), reader.u8()];
  const hashed = readSubpackets(reader.take(reader.u16()), true, depth);
  const end = reader.at;
  const unhashed = readSubpackets(reader.take(reader.u16()), false, depth);
  reader.u16(); // the hash's first bytes, of no use
  const { created } = hashed;
  if (created === undefined) throw new BuildError('openpgp: invalid data: no creation time in signature');
  const size = Buffer.alloc(4);
  size.writeUInt32BE(end);
  return {
    type,
    algorithm,
    hashId,
    hash: HASHES[hashId],
    created,
    lifetime: hashed.lifetime ?? 0,
    keyLifetime: hashed.keyLifetime ?? 0,
    issuer: hashed.issuer ?? unhashed.issuer,
    flags: hashed.flags,
    isPrimary: hashed.isPrimary ?? false,
    revocationReason: hashed.revocationReason ?? '',
    embedded: hashed.embedded ?? unhashed.embedded,
    suffix: Buffer.concat([body.subarray(0, end), Buffer.from([SIGNATURE_VERSION, 0xff]), size]),
    numbers: signatureNumbers(algorithm, reader),
  };
}

function signatureNumbers(algorithm: number, reader: ByteReader): SignatureNumbers {
  if (algorithm === Algorithm.rsa || algorithm === Algorithm.rsaSignOnly) return [reader.mpi()];
  if (algorithm === Algorithm.ecdsa || algorithm === Algorithm.eddsa) return [reader.mpi(), reader.mpi()];
  return [];
}

interface Subpackets {
  created?: number;
  lifetime?: number;
  keyLifetime?: number;
  issuer?: string;
  flags?: number;
  isPrimary?: boolean;
  revocationReason?: string;
  embedded?: PgpSignature;
}

const Subpacket = {
  created: 2,
  lifetime: 3,
  keyLifetime: 9,
  issuer: 16,
  isPrimary: 25,
  flags: 27,
  revocationReason: 29,
  embedded: 32,
  fingerprint: 33,
} as const;
/** Kinds that say nothing about whether a signature is good. */
const HARMLESS = new Set([4, 5, 7, 11, 21, 22, 23, 24, 26, 28, 30, 34]);

function readSubpackets(data: Buffer, trusted: boolean, depth: number): Subpackets {
  const reader = new ByteReader(data);
  const found: Subpackets = {};
  while (reader.left > 0) {
    const length = lengthOf(reader);
    if (!length) throw new BuildError('openpgp: invalid data: zero length signature subpacket');
    const body = new ByteReader(reader.take(length));
    const kind = body.u8();
    // Without protection of the signature only hints count.
    if (trusted) readTrusted(found, kind & 0x7f, body, (kind & 0x80) !== 0);
    readHint(found, kind & 0x7f, body, depth);
  }
  return found;
}

function readTrusted(found: Subpackets, kind: number, body: ByteReader, critical: boolean): void {
  switch (kind) {
    case Subpacket.created:
      found.created = body.u32();
      return;
    case Subpacket.lifetime:
      found.lifetime = body.u32();
      return;
    case Subpacket.keyLifetime:
      found.keyLifetime = body.u32();
      return;
    case Subpacket.isPrimary:
      found.isPrimary = body.u8() !== 0;
      return;
    case Subpacket.flags:
      found.flags = body.left > 0 ? body.u8() : 0;
      return;
    case Subpacket.revocationReason:
      body.u8();
      found.revocationReason = body.rest().toString();
      return;
    case Subpacket.issuer:
    case Subpacket.fingerprint:
    case Subpacket.embedded:
      return;
    default:
      if (critical && !HARMLESS.has(kind))
        throw new BuildError(
          `openpgp: unsupported feature: unknown critical signature subpacket type ${kind}`,
        );
  }
}

function readHint(found: Subpackets, kind: number, body: ByteReader, depth: number): void {
  if (kind === Subpacket.issuer) found.issuer = body.take(8).toString('hex').toUpperCase();
  else if (kind === Subpacket.fingerprint && body.left === 21 && body.u8() === KEY_VERSION)
    found.issuer ??= body.rest().subarray(-8).toString('hex').toUpperCase();
  else if (kind === Subpacket.embedded && depth < MAX_DEPTH)
    found.embedded = parseSignature(body.rest(), depth + 1);
}
