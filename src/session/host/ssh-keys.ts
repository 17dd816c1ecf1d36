import { createPrivateKey, type JsonWebKeyInput, type KeyObject, sign } from 'node:crypto';
import { BuildError, invalidArgument } from '../../base/errors.ts';
import { SshReader, sshNumber, sshString } from './ssh-wire.ts';

type JsonWebKey = JsonWebKeyInput['key'];

const MAGIC = 'openssh-key-v1\0';
const FLAG_SHA256 = 2;
const FLAG_SHA512 = 4;

const CURVES: Readonly<
  Record<string, { readonly jwk: string; readonly bytes: number; readonly hash: string }>
> = {
  nistp256: { jwk: 'P-256', bytes: 32, hash: 'sha256' },
  nistp384: { jwk: 'P-384', bytes: 48, hash: 'sha384' },
  nistp521: { jwk: 'P-521', bytes: 66, hash: 'sha512' },
};

/** A private key as an agent holds it. */
export interface AgentKey {
  /** Public key in SSH form. */
  readonly blob: Buffer;
  readonly comment: string;
  /** Signature in SSH form; `flags` choose the hash for RSA keys (RFC 8332). */
  sign(data: Uint8Array, flags: number): Buffer;
}

/** Reads an unencrypted private key: OpenSSH's own format, or PEM (PKCS #1, SEC 1, PKCS #8). */
export function parsePrivateKey(text: Buffer, path: string): AgentKey {
  try {
    const pem = text.toString('utf8');
    const openssh = /-----BEGIN OPENSSH PRIVATE KEY-----([^-]*)-----END/.exec(pem);
    if (openssh) {
      const { key, comment } = parseOpenSsh(Buffer.from(openssh[1] as string, 'base64'));
      return agentKey(createPrivateKey({ key, format: 'jwk' }), comment);
    }
    if (/ENCRYPTED/.test(pem)) throw protectedKey();
    if (!pem.includes('-----BEGIN ')) throw invalidArgument('ssh: no key found');
    return agentKey(createPrivateKey(pem), '');
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse ${path}`);
  }
}

function protectedKey(): BuildError {
  return invalidArgument('this private key is passphrase protected: add it to an ssh agent and forward that');
}

function parseOpenSsh(bytes: Buffer): { key: JsonWebKey; comment: string } {
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC)
    throw invalidArgument('invalid openssh private key format');
  const outer = new SshReader(bytes.subarray(MAGIC.length));
  const cipher = outer.text();
  outer.string(); // kdf
  outer.string(); // its options
  if (cipher !== 'none') throw protectedKey();
  if (outer.uint32() !== 1) throw invalidArgument('openssh private key file with more than one key');
  outer.string(); // public key
  const inner = new SshReader(outer.string());
  const check = inner.uint32();
  if (inner.uint32() !== check) throw invalidArgument('malformed openssh private key');
  const type = inner.text();
  const key = readKey(type, inner);
  return { key, comment: inner.text() };
}

function readKey(type: string, inner: SshReader): JsonWebKey {
  const b64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  if (type === 'ssh-ed25519') {
    const x = inner.string();
    const d = inner.string().subarray(0, 32);
    return { kty: 'OKP', crv: 'Ed25519', x: b64(x), d: b64(d) };
  }
  if (type === 'ssh-rsa') {
    const [n, e, d, qi, p, q] = Array.from({ length: 6 }, () => inner.number()) as Buffer[];
    const part = (prime: Buffer): string => b64(fromBig(toBig(d as Buffer) % (toBig(prime) - 1n)));
    const named = { n, e, d, p, q, qi } as Record<string, Buffer>;
    const members = Object.fromEntries(Object.entries(named).map(([name, value]) => [name, b64(value)]));
    return { kty: 'RSA', ...members, dp: part(p as Buffer), dq: part(q as Buffer) };
  }
  const curve = CURVES[type.replace(/^ecdsa-sha2-/, '')];
  if (!curve) throw invalidArgument(`unsupported key type ${type}`);
  inner.string(); // curve name again
  const point = inner.string();
  const d = inner.number();
  const padded = Buffer.concat([Buffer.alloc(curve.bytes - d.length), d]);
  const x = b64(point.subarray(1, 1 + curve.bytes));
  return { kty: 'EC', crv: curve.jwk, x, y: b64(point.subarray(1 + curve.bytes)), d: b64(padded) };
}

function toBig(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex') || '0'}`);
}

function fromBig(value: bigint): Buffer {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex');
}

function agentKey(key: KeyObject, comment: string): AgentKey {
  const jwk = key.export({ format: 'jwk' });
  const bytes = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') {
    const blob = Buffer.concat([sshString('ssh-ed25519'), sshString(bytes(jwk.x))]);
    return { blob, comment, sign: (data) => signature('ssh-ed25519', sign(null, data, key)) };
  }
  if (jwk.kty === 'RSA') {
    const blob = Buffer.concat([sshString('ssh-rsa'), sshNumber(bytes(jwk.e)), sshNumber(bytes(jwk.n))]);
    return { blob, comment, sign: (data, flags) => signRsa(key, data, flags) };
  }
  const curve = Object.entries(CURVES).find(([, c]) => c.jwk === jwk.crv);
  if (!curve) throw invalidArgument(`unsupported key type ${jwk.kty ?? ''} ${jwk.crv ?? ''}`);
  const [name, { hash }] = curve;
  const point = Buffer.concat([Buffer.of(4), bytes(jwk.x), bytes(jwk.y)]);
  const type = `ecdsa-sha2-${name}`;
  const blob = Buffer.concat([sshString(type), sshString(name), sshString(point)]);
  return {
    blob,
    comment,
    sign: (data) => {
      const pair = sign(hash, data, { key, dsaEncoding: 'ieee-p1363' });
      const half = pair.length / 2;
      return signature(
        type,
        Buffer.concat([sshNumber(pair.subarray(0, half)), sshNumber(pair.subarray(half))]),
      );
    },
  };
}

function signRsa(key: KeyObject, data: Uint8Array, flags: number): Buffer {
  if (flags & FLAG_SHA512) return signature('rsa-sha2-512', sign('sha512', data, key));
  if (flags & FLAG_SHA256) return signature('rsa-sha2-256', sign('sha256', data, key));
  return signature('ssh-rsa', sign('sha1', data, key));
}

function signature(type: string, bytes: Uint8Array): Buffer {
  return Buffer.concat([sshString(type), sshString(bytes)]);
}
