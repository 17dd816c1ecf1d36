import { createHmac, createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errno } from '../../base/errors.ts';

const SEED_BYTES = 16;
const LOCK_POLL_MS = 20;
/** Fixed head of a PKCS #8 ed25519 key; its 32-byte seed follows (RFC 8410). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Files of a directory that cannot be written still give a seed, which then lasts for this process. */
const TOLERATED = new Set(['EROFS', 'EACCES', 'EPERM', 'ENOENT', 'ENOTDIR']);

/** Random bytes per registry host that only this user has, kept in `<docker config>/.token_seed` (FEATURES C16). */
export class TokenSeeds {
  readonly #dir: string | undefined;
  readonly #known = new Map<string, Buffer>();
  #queue: Promise<unknown> = Promise.resolve();

  /** @param dir absent: seeds are not kept */
  constructor(dir: string | undefined) {
    this.#dir = dir;
  }

  get(host: string): Promise<Buffer> {
    const next = this.#queue.then(() => this.#load(host));
    this.#queue = next.catch(() => {});
    return next;
  }

  async #load(host: string): Promise<Buffer> {
    const known = this.#known.get(host);
    if (known) return known;
    if (this.#dir === undefined) {
      const seed = randomBytes(SEED_BYTES);
      this.#known.set(host, seed);
      return seed;
    }
    return await this.#loadFrom(this.#dir, host);
  }

  async #loadFrom(dir: string, host: string): Promise<Buffer> {
    const lock = await lockSeeds(dir);
    try {
      const path = join(dir, '.token_seed');
      const all = readSeeds(path);
      const kept = all[host]?.Seed;
      const seed = kept ? Buffer.from(kept, 'base64') : randomBytes(SEED_BYTES);
      if (!kept) {
        all[host] = { Seed: seed.toString('base64') };
        tolerate(() => writeFileSync(path, JSON.stringify(all, undefined, 2), { mode: 0o600 }));
      }
      this.#known.set(host, seed);
      return seed;
    } finally {
      if (lock !== undefined) closeSync(lock);
    }
  }
}

/** Descriptor that holds the lock until it is closed. */
async function lockSeeds(dir: string): Promise<number | undefined> {
  const fd = tolerate(() => {
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    return openSync(join(dir, '.token_seed.lock'), 'a', 0o600);
  });
  if (fd === undefined) return undefined;
  const { tryFlock } = await import('../../sys/file.ts');
  while (!tryFlock(fd, 'exclusive')) await sleep(LOCK_POLL_MS);
  return fd;
}

function readSeeds(path: string): Record<string, { Seed?: string }> {
  const text = tolerate(() => readFileSync(path, 'utf8'));
  if (text === undefined) return {};
  try {
    return JSON.parse(text) as Record<string, { Seed?: string }>;
  } catch {
    return {}; // cut off by a crash: new seeds are as good
  }
}

function tolerate<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (TOLERATED.has(errno(error) ?? '')) return undefined;
    throw error;
  }
}

/** Key that stands for the user's secret of one host, towards the daemon that gave `salt`. */
export function authorityKey(salt: Uint8Array, seed: Uint8Array | undefined): KeyObject {
  const mac = createHmac('sha256', salt);
  if (seed) mac.update(seed);
  return createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, mac.digest()]), format: 'der', type: 'pkcs8' });
}

/** The 32 bytes of the public key. */
export function rawPublicKey(key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);
}
