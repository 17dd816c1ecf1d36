import { createHash } from 'node:crypto';
import { BuildError } from '../../base/errors.ts';
import { ByteReader, unarmor } from './bytes.ts';
import { type EcCurve, type KeyNumbers, verifies } from './public-key.ts';

const MAGIC = 'SSHSIG';
const CURVES: Readonly<Record<string, EcCurve>> = { nistp256: 'P-256', nistp384: 'P-384', nistp521: 'P-521' };
const CURVE_HASHES: Readonly<Record<EcCurve, string>> = {
  'P-256': 'sha256',
  'P-384': 'sha384',
  'P-521': 'sha512',
  secp256k1: 'sha256',
};

interface SshSignature {
  readonly version: number;
  readonly publicKey: Buffer;
  readonly namespace: Buffer;
  readonly reserved: Buffer;
  readonly hash: string;
  readonly signature: Buffer;
}

/**
 * Checks a signature of ssh-keygen (PROTOCOL.sshsig of OpenSSH) that was made for `namespace`.
 * @param publicKey a line of an authorized_keys file
 * @throws BuildError unless it is right
 */
export function verifySshSignature(
  data: Uint8Array,
  armored: string,
  publicKey: string,
  namespace: string,
): void {
  const signature = parseSignature(armored);
  if (signature.version !== 1)
    throw new BuildError(`unsupported SSH signature version: ${signature.version}`);
  if (signature.hash !== 'sha256' && signature.hash !== 'sha512')
    throw new BuildError(`unsupported SSH signature hash algorithm: ${signature.hash}`);
  if (signature.namespace.toString() !== namespace)
    throw new BuildError(
      `unexpected SSH signature namespace: ${JSON.stringify(signature.namespace.toString())}`,
    );
  const key = parseAuthorizedKey(publicKey);
  const failed = (why: string): BuildError => new BuildError(`failed to verify ssh signature: ${why}`);
  if (!key.equals(signature.publicKey)) throw failed('public key does not match');
  const message = Buffer.concat([
    Buffer.from(MAGIC),
    sshString(signature.namespace),
    sshString(signature.reserved),
    sshString(Buffer.from(signature.hash)),
    sshString(createHash(signature.hash).update(data).digest()),
  ]);
  let right = false;
  try {
    right = verifyBlob(key, signature.signature, message);
  } catch (error) {
    throw failed(BuildError.from(error).message);
  }
  if (!right) throw failed('ssh: signature did not verify');
}

function parseSignature(armored: string): SshSignature {
  const block = unarmor(armored);
  if (block?.type !== 'SSH SIGNATURE') throw new BuildError('failed to decode ssh signature PEM block');
  try {
    const reader = new ByteReader(block.data);
    if (reader.take(MAGIC.length).toString() !== MAGIC) throw new BuildError('invalid magic preamble');
    return {
      version: reader.u32(),
      publicKey: reader.string(),
      namespace: reader.string(),
      reserved: reader.string(),
      hash: reader.string().toString(),
      signature: reader.string(),
    };
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse ssh signature');
  }
}

/** The first key of the text; options in front of it and comments behind it do not count. */
function parseAuthorizedKey(text: string): Buffer {
  for (const line of text.split('\n')) {
    if (line.trim() === '' || line.trim().startsWith('#')) continue;
    const words = line.split(/\s/).filter((word) => word !== '');
    for (const [i, type] of words.entries()) {
      const encoded = words[i + 1] ?? '';
      if (!encoded.startsWith('AAAA')) continue; // a length below 256 comes first
      const blob = Buffer.from(encoded, 'base64');
      const size = blob.readUInt32BE();
      if (blob.subarray(4, 4 + size).toString() === type) return blob;
    }
  }
  throw new BuildError('failed to parse ssh public key: ssh: no key found');
}

function sshString(data: Uint8Array): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(data.length);
  return Buffer.concat([size, data]);
}

/** Checks the signature proper: its format, then the numbers that belong to it. */
function verifyBlob(keyBlob: Buffer, signatureBlob: Buffer, message: Buffer): boolean {
  const key = new ByteReader(keyBlob);
  const type = key.string().toString();
  const signature = new ByteReader(signatureBlob);
  const format = signature.string().toString();
  const blob = signature.string();
  if (type === 'ssh-rsa') {
    const hash = { 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' }[format];
    if (hash === undefined) throw wrongFormat(format, type);
    const e = key.string();
    return verifies({ kind: 'rsa', n: key.string(), e }, [blob], message, hash);
  }
  if (format !== type) throw wrongFormat(format, type);
  const signed = type.startsWith('sk-') ? securityKeyMessage(type, key, signature, message) : undefined;
  const { numbers, hash } = signed ?? plainKey(type, key);
  const data = signed?.message ?? message;
  if (numbers.kind === 'ecdsa') {
    const pair = new ByteReader(blob);
    return verifies(numbers, [pair.string(), pair.string()], data, hash);
  }
  if (blob.length !== 64) return false;
  return verifies(numbers, [blob.subarray(0, 32), blob.subarray(32)], data, hash);
}

function wrongFormat(format: string, type: string): BuildError {
  return new BuildError(`ssh: signature type ${format} for key type ${type}`);
}

function plainKey(type: string, key: ByteReader): { numbers: KeyNumbers; hash: string } {
  if (type === 'ssh-ed25519') return { numbers: { kind: 'ed25519', point: key.string() }, hash: 'sha512' };
  const curve = type.startsWith('ecdsa-sha2-') ? CURVES[key.string().toString()] : undefined;
  if (curve === undefined) throw new BuildError(`ssh: unknown key algorithm: ${type}`);
  return { numbers: { kind: 'ecdsa', curve, point: key.string() }, hash: CURVE_HASHES[curve] };
}

/** A key on a token signs hashes of the message and of its application, with flags and a counter. */
function securityKeyMessage(
  type: string,
  key: ByteReader,
  signature: ByteReader,
  message: Buffer,
): { numbers: KeyNumbers; hash: string; message: Buffer } {
  const isEcdsa = type === 'sk-ecdsa-sha2-nistp256@openssh.com';
  if (!isEcdsa && type !== 'sk-ssh-ed25519@openssh.com')
    throw new BuildError(`ssh: unknown key algorithm: ${type}`);
  if (isEcdsa && key.string().toString() !== 'nistp256') throw new BuildError('ssh: unsupported curve');
  const point = key.string();
  const application = key.string();
  const flagsAndCounter = signature.take(5);
  const sha256 = (data: Uint8Array): Buffer => createHash('sha256').update(data).digest();
  return {
    numbers: isEcdsa ? { kind: 'ecdsa', curve: 'P-256', point } : { kind: 'ed25519', point },
    hash: 'sha256',
    message: Buffer.concat([sha256(application), flagsAndCounter, sha256(message)]),
  };
}
