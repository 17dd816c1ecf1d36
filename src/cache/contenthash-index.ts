import { hash } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Digest } from '../base/digest.ts';

const MAGIC = Buffer.from('bkts-hash-1\n');
const SUM_BYTES = 32;
const EMPTY_DIGEST = `sha256:${hash('sha256', '')}` as Digest;

/** A change that a transfer made to the tree. */
export interface TreeChange {
  /** Relative or absolute path. */
  readonly path: string;
  readonly kind: 'delete' | 'write';
  /** Of a written entry, if it is known; of a directory, that of its header. */
  readonly digest?: Digest;
  readonly directory?: boolean;
}

/**
 * Digests of a tree by path: `/a/b` of a file or of all below a directory, `/a/` of a directory's own header, `''`
 * and `/` for the root. In memory only while a job runs; kept as one compact file.
 */
export class HashIndex {
  readonly #digests: Map<string, Digest>;
  #changed = false;

  constructor(digests = new Map<string, Digest>()) {
    this.#digests = digests;
  }

  /** A missing or damaged file gives an empty index. */
  static load(file: string): HashIndex {
    try {
      return new HashIndex(decode(readFileSync(file)));
    } catch {
      // Damaged, or something else in its place: everything in it can be found again by reading the tree.
      return new HashIndex();
    }
  }

  get changed(): boolean {
    return this.#changed;
  }

  get(key: string): Digest | undefined {
    return this.#digests.get(key);
  }

  set(key: string, digest: Digest): void {
    this.#digests.set(key, digest);
    this.#changed = true;
  }

  /** Replaces `file` in one step. */
  save(file: string): void {
    const temporary = `${file}.${process.pid}.${hash('sha256', String(performance.now())).slice(0, 12)}`;
    try {
      writeFileSync(temporary, encode(this.#digests));
      renameSync(temporary, file);
    } catch {
      // It is there to save work, and no step fails for it; an old one may say what is wrong by now.
      rmSync(temporary, { force: true });
      rmSync(file, { recursive: true, force: true });
      return;
    }
    this.#changed = false;
  }

  /** Makes the header of the root that of a transferred tree: such a tree has none. */
  setTransferredRoot(): void {
    if (this.#digests.get('/') !== EMPTY_DIGEST) this.set('/', EMPTY_DIGEST);
  }

  /** Forgets what the changes made wrong, and takes the digests they bring. */
  update(changes: readonly TreeChange[]): void {
    const gone = new Set<string>();
    const stale = new Set<string>();
    const keys = changes.map((change) => `/${change.path.replace(/^\/+|\/+$/g, '')}`);
    changes.forEach((change, at) => {
      const key = keys[at]!;
      stale.add(key);
      if (change.kind === 'delete' || !change.directory) gone.add(key);
      for (let slash = key.lastIndexOf('/'); slash >= 0; slash = key.lastIndexOf('/', slash - 1)) {
        const parent = key.slice(0, slash);
        if (stale.has(parent)) break;
        stale.add(parent);
        if (slash === 0) break;
      }
    });
    for (const key of stale) this.#delete(key);
    for (const key of gone) this.#delete(`${key}/`);
    if (gone.size > 0) for (const key of [...this.#digests.keys()]) if (isBelow(key, gone)) this.#delete(key);
    changes.forEach((change, at) => {
      const key = change.directory ? `${keys[at]!}/` : keys[at]!;
      if (change.kind === 'delete') return;
      if (change.digest !== undefined) this.set(key, change.digest);
      else this.#delete(key);
    });
  }

  #delete(key: string): void {
    if (this.#digests.delete(key)) this.#changed = true;
  }
}

function isBelow(key: string, dirs: ReadonlySet<string>): boolean {
  for (let slash = key.lastIndexOf('/'); slash > 0; slash = key.lastIndexOf('/', slash - 1))
    if (dirs.has(key.slice(0, slash))) return true;
  return false;
}

/** Whether `file` holds an index whose checksum is right. */
export async function isIndexFile(file: string): Promise<boolean> {
  try {
    decode(await readFile(file));
    return true;
  } catch {
    // Whatever it is, it is none.
    return false;
  }
}

/** Sorted keys, each with what it shares with the one before; raw digests; a checksum at the end. */
function encode(digests: ReadonlyMap<string, Digest>): Buffer {
  const parts: Buffer[] = [MAGIC];
  let last = '';
  for (const key of [...digests.keys()].sort()) {
    let shared = 0;
    while (shared < last.length && shared < key.length && last[shared] === key[shared]) shared++;
    const rest = Buffer.from(key.slice(shared), 'utf16le');
    const head = Buffer.alloc(4);
    head.writeUInt16LE(shared, 0);
    head.writeUInt16LE(rest.length, 2);
    parts.push(head, rest, Buffer.from(digests.get(key)!.slice('sha256:'.length), 'hex'));
    last = key;
  }
  const body = Buffer.concat(parts);
  return Buffer.concat([body, hash('sha256', body, 'buffer')]);
}

/** @throws RangeError when the bytes are not an index */
function decode(bytes: Buffer): Map<string, Digest> {
  const end = bytes.length - SUM_BYTES;
  if (end < MAGIC.length || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new RangeError('no index');
  const body = bytes.subarray(0, end);
  if (!hash('sha256', body, 'buffer').equals(bytes.subarray(end))) throw new RangeError('damaged index');
  const digests = new Map<string, Digest>();
  let last = '';
  for (let at = MAGIC.length; at < end; ) {
    const shared = bytes.readUInt16LE(at);
    const start = at + 4;
    at = start + bytes.readUInt16LE(at + 2);
    last = last.slice(0, shared) + bytes.toString('utf16le', start, at);
    digests.set(last, `sha256:${bytes.toString('hex', at, at + 32)}` as Digest);
    at += 32;
  }
  return digests;
}
