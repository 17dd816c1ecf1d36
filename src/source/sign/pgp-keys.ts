import { BuildError } from '../../base/errors.ts';
import { unarmor } from './bytes.ts';
import {
  keyPrefix,
  type Packet,
  parseKey,
  parseSignature,
  type PgpKey,
  type PgpSignature,
  readPackets,
  SignatureType,
  Tag,
} from './pgp-packets.ts';
import { type SignatureCheck, startCheck } from './public-key.ts';

const FLAG_SIGN = 0x02;

/** A name of a key's owner, as far as the key itself vouches for it. */
interface Identity {
  self: PgpSignature | undefined;
  revoked: boolean;
}

interface Subkey {
  readonly key: PgpKey;
  binding: PgpSignature | undefined;
  revoked: boolean;
}

/** A key with its names and subkeys; only what it has signed itself counts. */
export interface PgpEntity {
  readonly primary: PgpKey;
  readonly identities: Identity[];
  readonly subkeys: Subkey[];
  readonly revocations: PgpSignature[];
}

/** A key that may have made a signature. */
export interface SigningKey {
  readonly entity: PgpEntity;
  readonly key: PgpKey;
  /** What says that it may sign; and, of a subkey, what its owner says. */
  readonly vouchers: readonly PgpSignature[];
  readonly revoked: boolean;
}

/** All keys of armored blocks that follow one another. @throws BuildError */
export function readKeyRing(text: string): PgpEntity[] {
  const entities: PgpEntity[] = [];
  for (let at = 0; ; ) {
    const block = wrapped('failed to decode armored public key', () => unarmor(text, at));
    if (!block) break;
    if (block.type !== 'PGP PUBLIC KEY BLOCK')
      throw new BuildError(`expected public key block, got: ${block.type}`);
    entities.push(...wrapped('failed to read armored public key', () => readEntities(block.data)));
    at = block.end;
  }
  if (entities.length === 0) throw new BuildError('failed to read armored public key: no armored data found');
  return entities;
}

function wrapped<T>(prefix: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw BuildError.wrap(error, prefix);
  }
}

function readEntities(data: Uint8Array): PgpEntity[] {
  const entities: PgpEntity[] = [];
  let take: ((signature: PgpSignature) => void) | undefined;
  for (const packet of readPackets(data)) {
    const last = entities.at(-1);
    if (packet.tag === Tag.publicKey) {
      const entity: PgpEntity = {
        primary: parseKey(packet.body),
        identities: [],
        subkeys: [],
        revocations: [],
      };
      entities.push(entity);
      take = (signature) => takeDirect(entity, signature);
    } else if (last && packet.tag === Tag.signature) take?.(parseSignature(packet.body));
    else if (last) take = takerOf(last, packet) ?? take;
    else throw new BuildError('openpgp: invalid data: first packet was not a public/private key');
  }
  return entities;
}

/** What becomes of the signatures behind a packet. */
function takerOf(entity: PgpEntity, { tag, body }: Packet): ((signature: PgpSignature) => void) | undefined {
  if (tag === Tag.userId) {
    const identity: Identity = { self: undefined, revoked: false };
    entity.identities.push(identity);
    return (signature) => takeCertification(entity, identity, body, signature);
  }
  if (tag === Tag.userAttribute) return () => {};
  if (tag !== Tag.publicSubkey) return undefined;
  const subkey: Subkey = { key: parseKey(body), binding: undefined, revoked: false };
  entity.subkeys.push(subkey);
  return (signature) => takeBinding(entity, subkey, signature);
}

/** A key may only be revoked by itself: another's word for it can not be checked here. */
function takeDirect(entity: PgpEntity, signature: PgpSignature): void {
  if (signature.type !== SignatureType.keyRevocation) return;
  if (!signedBy(entity.primary, signature, hashedKey(entity.primary)))
    throw new BuildError('openpgp: invalid data: revocation signature signed by alternate key');
  entity.revocations.push(signature);
}

function takeCertification(
  entity: PgpEntity,
  identity: Identity,
  name: Buffer,
  signature: PgpSignature,
): void {
  const { type, issuer, created } = signature;
  const certifies = type >= SignatureType.certifyFirst && type <= SignatureType.certifyLast;
  const revokes = type === SignatureType.certificationRevocation;
  if ((!certifies && !revokes) || issuer !== entity.primary.id) return; // somebody else's opinion
  const size = Buffer.alloc(5);
  size[0] = 0xb4;
  size.writeUInt32BE(name.length, 1);
  if (!signedBy(entity.primary, signature, Buffer.concat([hashedKey(entity.primary), size, name]))) return;
  if (revokes) identity.revoked = true;
  else if (!identity.self || created > identity.self.created) identity.self = signature;
}

function takeBinding(entity: PgpEntity, subkey: Subkey, signature: PgpSignature): void {
  const { type, created } = signature;
  const data = Buffer.concat([hashedKey(entity.primary), hashedKey(subkey.key)]);
  if (!signedBy(entity.primary, signature, data)) return;
  if (type === SignatureType.subkeyRevocation) subkey.revoked = true;
  if (type !== SignatureType.subkeyBinding) return;
  if (!subkey.binding || created > subkey.binding.created) subkey.binding = signature;
}

function hashedKey(key: PgpKey): Buffer {
  return Buffer.concat([keyPrefix(key.body), key.body]);
}

/** Whether `key` made the signature over `data`, which is what its type says without the suffix. */
function signedBy(key: PgpKey, signature: PgpSignature, data: Uint8Array): boolean {
  const check = startKeyCheck(key, signature);
  check?.update(data);
  check?.update(signature.suffix);
  return check?.verifies() ?? false;
}

/** A check that wants the data and the signature's suffix; undefined when the key can not have made it. */
export function startKeyCheck(key: PgpKey, signature: PgpSignature): SignatureCheck | undefined {
  const { numbers, algorithm } = key;
  const { hash } = signature;
  if (numbers === undefined || hash === undefined || algorithm !== signature.algorithm) return undefined;
  return startCheck(numbers, signature.numbers, hash);
}

/** Keys of that id that may sign. A subkey has to say itself that it belongs to its primary key. */
export function signingKeys(entities: readonly PgpEntity[], id: string): SigningKey[] {
  return entities.flatMap((entity) => {
    const self = mainIdentity(entity)?.self;
    const revoked = mainIdentity(entity)?.revoked ?? false;
    if (!self) return [];
    const found: SigningKey[] = [];
    if (entity.primary.id === id && maySign(self))
      found.push({ entity, key: entity.primary, vouchers: [self], revoked });
    for (const { key, binding, revoked: gone } of entity.subkeys) {
      const embedded = binding?.embedded;
      if (key.id !== id || !binding || !maySign(binding) || !embedded) continue;
      const data = Buffer.concat([hashedKey(entity.primary), hashedKey(key)]);
      if (embedded.type !== SignatureType.primaryBinding || !signedBy(key, embedded, data)) continue;
      found.push({ entity, key, vouchers: [self, binding, embedded], revoked: revoked || gone });
    }
    return found;
  });
}

function maySign({ flags }: PgpSignature): boolean {
  return flags !== undefined && (flags & FLAG_SIGN) !== 0;
}

/** The name that speaks for the key: a valid one, the one marked so, the newest. */
function mainIdentity({ identities }: PgpEntity): Identity | undefined {
  const rank = ({ self, revoked }: Identity): number =>
    (revoked ? 0 : 2 ** 40) + (self?.isPrimary ? 2 ** 36 : 0) + (self?.created ?? 0);
  return identities.filter(({ self }) => self !== undefined).sort((a, b) => rank(b) - rank(a))[0];
}
