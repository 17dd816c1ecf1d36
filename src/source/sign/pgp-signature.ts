import { BuildError } from '../../base/errors.ts';
import { unarmor } from './bytes.ts';
import { readKeyRing, type SigningKey, signingKeys, startKeyCheck } from './pgp-keys.ts';
import {
  Algorithm,
  parseSignature,
  type PgpKey,
  type PgpSignature,
  readPackets,
  SignatureType,
  Tag,
} from './pgp-packets.ts';
import { bitsOf, type SignatureCheck } from './public-key.ts';

export interface PgpPolicy {
  /** Keys and signatures must be valid now, not only when the signature was made. */
  readonly rejectExpired: boolean;
}

const STRONG_HASHES: ReadonlySet<string | undefined> = new Set(['sha256', 'sha384', 'sha512']);
const WEAK_NAMES: Readonly<Record<number, string>> = { 1: 'MD5', 2: 'SHA-1', 3: 'RIPEMD-160', 11: 'SHA-224' };
const KIND_NAMES: Readonly<Record<string, string>> = { rsa: 'RSA', ecdsa: 'ECDSA', ed25519: 'EdDSA' };
const MIN_RSA_BITS = 2048;
/** How far a clock may be wrong, seconds. */
const CLOCK_SKEW_S = 300;

/**
 * Checks a detached signature of OpenPGP (RFC 4880) by one of the armored keys.
 * @throws BuildError unless it is right
 */
export function verifyPgpSignature(
  data: Uint8Array,
  armored: string,
  publicKeys: string,
  policy: PgpPolicy,
): void {
  const signature = new DetachedSignature(armored, publicKeys);
  signature.update(data);
  signature.finish(policy);
}

interface Candidate {
  readonly signer: SigningKey;
  readonly check: SignatureCheck | undefined;
}

/** A detached signature whose data comes in pieces. */
export class DetachedSignature {
  readonly #signature: PgpSignature;
  readonly #candidates: readonly Candidate[];
  /** Text is signed with the line ends of mail. */
  readonly #form: (data: Uint8Array) => Uint8Array;

  /** @throws BuildError when nothing that these keys have signed can have this signature */
  constructor(armored: string, publicKeys: string) {
    const signature = readSignature(armored);
    const entities = readKeyRing(publicKeys);
    checkAlgorithms(signature);
    const { issuer, type } = signature;
    if (issuer === undefined) throw new BuildError("openpgp: invalid data: signature doesn't have an issuer");
    const signers = signingKeys(entities, issuer);
    if (signers.length === 0)
      throw new BuildError(`${signatureBy(issuer)}: openpgp: signature made by unknown entity`);
    if (type !== SignatureType.binary && type !== SignatureType.text)
      throw new BuildError(`${signatureBy(issuer)}: openpgp: unsupported feature: signature type ${type}`);
    this.#signature = signature;
    this.#candidates = signers.map((signer) => ({ signer, check: startKeyCheck(signer.key, signature) }));
    this.#form = type === SignatureType.text ? mailLines() : (data) => data;
  }

  update(data: Uint8Array): void {
    const signed = this.#form(data);
    for (const { check } of this.#candidates) check?.update(signed);
  }

  /** @throws BuildError unless one of the keys has signed the data */
  finish(policy: PgpPolicy): void {
    const signature = this.#signature;
    const present = Math.floor(Date.now() / 1000);
    let signer: SigningKey;
    try {
      signer = findSigner(signature, this.#candidates);
      checkTimes(signer, signature, policy.rejectExpired ? present : signature.created);
    } catch (error) {
      throw BuildError.wrap(error, signatureBy(signature.issuer));
    }
    checkUsable(signer, signature, present);
  }
}

function signatureBy(issuer = ''): string {
  return `signature by ${issuer.replace(/^0+/, '')}`;
}

function readSignature(armored: string): PgpSignature {
  let block: ReturnType<typeof unarmor>;
  try {
    block = unarmor(armored);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to decode armored signature');
  }
  if (block?.type !== 'PGP SIGNATURE') throw new BuildError('failed to decode armored signature: EOF');
  const packet = readPackets(block.data).find(({ tag }) => tag === Tag.signature);
  if (!packet) throw new BuildError('no signature packet found');
  return parseSignature(packet.body);
}

function checkAlgorithms({ hash, hashId, algorithm }: PgpSignature): void {
  if (!STRONG_HASHES.has(hash))
    throw new BuildError(`rejecting weak/unknown hash: ${WEAK_NAMES[hashId] ?? hashId}`);
  if (!Object.values<number>(Algorithm).includes(algorithm))
    throw new BuildError(`rejecting unsupported pubkey algorithm: ${algorithm}`);
}

function findSigner(signature: PgpSignature, candidates: readonly Candidate[]): SigningKey {
  for (const { signer, check } of candidates) {
    check?.update(signature.suffix);
    if (check?.verifies()) return signer;
  }
  const kind = KIND_NAMES[candidates[0]?.signer.key.numbers?.kind ?? ''] ?? 'key';
  throw new BuildError(`openpgp: invalid signature: ${kind} verification failure`);
}

/** Turns the line ends of one text that comes in pieces into those of mail. */
function mailLines(): (data: Uint8Array) => Buffer {
  let afterReturn = false;
  return (data) => {
    const text = Buffer.from(data).toString('latin1');
    const kept = afterReturn && text.startsWith('\n') ? 1 : 0; // the second half of a line end
    if (text !== '') afterReturn = text.endsWith('\r');
    return Buffer.from(text.slice(0, kept) + text.slice(kept).replace(/\r?\n/g, '\r\n'), 'latin1');
  };
}

/** The key and all that speaks for it have to be valid at that time. */
function checkTimes(signer: SigningKey, signature: PgpSignature, time: number): void {
  const { entity, key, vouchers, revoked } = signer;
  if (revoked || entity.revocations.some((each) => !isExpired(each, time)))
    throw new BuildError('openpgp: signature made by revoked key');
  const [self, binding] = vouchers;
  if (self && isKeyExpired(entity.primary, self, time)) throw new BuildError('openpgp: key expired');
  if (binding && isKeyExpired(key, binding, time)) throw new BuildError('openpgp: key expired');
  if ([signature, ...vouchers].some((each) => isExpired(each, time)))
    throw new BuildError('openpgp: signature expired');
}

/** What holds at any time. */
function checkUsable({ entity, key }: SigningKey, signature: PgpSignature, present: number): void {
  const [revocation] = entity.revocations;
  if (revocation)
    throw new BuildError(
      revocation.revocationReason === '' ? 'key revoked' : `key revoked: ${revocation.revocationReason}`,
    );
  for (const { numbers } of [entity.primary, key])
    if (numbers?.kind === 'rsa' && bitsOf(numbers.n) < MIN_RSA_BITS)
      throw new BuildError(`RSA key too short: ${bitsOf(numbers.n)} bits`);
  if (signature.created > present + CLOCK_SKEW_S)
    throw new BuildError(
      `signature creation time is in the future: ${new Date(signature.created * 1000).toISOString()}`,
    );
}

function isExpired({ created, lifetime }: PgpSignature, time: number): boolean {
  return created > time || (lifetime > 0 && time > created + lifetime);
}

function isKeyExpired(key: PgpKey, { keyLifetime }: PgpSignature, time: number): boolean {
  return key.created > time || (keyLifetime > 0 && time > key.created + keyLifetime);
}
