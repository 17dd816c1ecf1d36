import { readSync } from 'node:fs';
import { badTar, BLOCK_BYTES, MAX_SPECIAL_BYTES, type TarHeader, TarType } from './tar-header.ts';

const NAME_BYTES = 100;
const PREFIX_BYTES = 155;

/**
 * Header blocks of an entry, as Go's archive/tar writes them when times are whole seconds: ustar when everything fits
 * there, else PAX records in front. Fractions of a second are dropped.
 */
export function encodeTarHeader(header: TarHeader): Buffer {
  if (header.type !== TarType.dir && header.type !== TarType.link && header.type !== TarType.symlink) {
    if (header.name.endsWith('/')) throw badTar('filename may not have trailing slash');
  }
  const records = paxRecords(header);
  const split = splitName(header.name);
  if (records.size === 0) {
    const name = split ? split.suffix : header.name;
    return mainBlock({ ...header, name }, split?.prefix ?? '');
  }
  return Buffer.concat([...paxBlocks(header.name, records), mainBlock(asciiNames(header), '')]);
}

/** The two zero blocks that end an archive. */
export const TAR_END = Buffer.alloc(2 * BLOCK_BYTES);

function asciiNames(header: TarHeader): TarHeader {
  return { ...header, name: toAscii(header.name), linkname: toAscii(header.linkname) };
}

/** Drops what is not ASCII, and NUL. */
function toAscii(text: string): string {
  return text.replace(/[^\x01-\x7f]/g, '');
}

const isAscii = (text: string): boolean => !/[^\x01-\x7f]/.test(text);

function splitName(name: string): { prefix: string; suffix: string } | undefined {
  if (name.length <= NAME_BYTES || !isAscii(name)) return undefined;
  let length = name.length;
  if (length > PREFIX_BYTES + 1) length = PREFIX_BYTES + 1;
  else if (name.endsWith('/')) length--;
  const slash = name.slice(0, length).lastIndexOf('/');
  const suffix = name.slice(slash + 1);
  if (slash <= 0 || suffix === '' || suffix.length > NAME_BYTES || slash > PREFIX_BYTES) return undefined;
  return { prefix: name.slice(0, slash), suffix };
}

/** What does not fit into a ustar header. */
function paxRecords(header: TarHeader): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  const set = (key: string, value: string): void => void records.set(key, Buffer.from(value));
  const fits = (text: string, length: number): boolean => isAscii(text) && text.length <= length;
  if (header.name.includes('\0') || header.linkname.includes('\0')) throw badTar('invalid PAX record');
  if (!fits(header.name, NAME_BYTES) && !splitName(header.name)) set('path', header.name);
  if (!fits(header.linkname, NAME_BYTES)) set('linkpath', header.linkname);
  if (!fits(header.uname ?? '', 32)) set('uname', header.uname ?? '');
  if (!fits(header.gname ?? '', 32)) set('gname', header.gname ?? '');
  if (!fitsOctal(header.uid, 8)) set('uid', String(header.uid));
  if (!fitsOctal(header.gid, 8)) set('gid', String(header.gid));
  if (!fitsOctal(header.size, 12)) set('size', String(header.size));
  if (!fitsOctal(header.mtime.sec, 12)) set('mtime', String(header.mtime.sec));
  if (!fitsOctal(header.devMajor, 8) || !fitsOctal(header.devMinor, 8))
    throw badTar(`PAX cannot encode device ${header.devMajor}:${header.devMinor} of ${header.name}`);
  for (const [key, value] of header.xattrs ?? []) records.set(`SCHILY.xattr.${key}`, value);
  return records;
}

export const fitsOctal = (value: number, length: number): boolean => value >= 0 && value < 8 ** (length - 1);

function mainBlock(header: TarHeader, prefix: string): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  putText(block, 0, NAME_BYTES, header.name);
  putOctal(block, 100, 8, header.mode);
  putOctal(block, 108, 8, header.uid);
  putOctal(block, 116, 8, header.gid);
  putOctal(block, 124, 12, header.size);
  putOctal(block, 136, 12, header.mtime.sec);
  block[156] = header.type.charCodeAt(0);
  putText(block, 157, NAME_BYTES, header.linkname);
  putText(block, 265, 32, toAscii(header.uname ?? ''));
  putText(block, 297, 32, toAscii(header.gname ?? ''));
  putOctal(block, 329, 8, header.devMajor);
  putOctal(block, 337, 8, header.devMinor);
  putText(block, 345, PREFIX_BYTES, prefix);
  return seal(block);
}

function paxBlocks(name: string, records: ReadonlyMap<string, Uint8Array>): Buffer[] {
  const data = encodePaxRecords(records);
  if (data.length > MAX_SPECIAL_BYTES) throw badTar('header field too long');
  const block = Buffer.alloc(BLOCK_BYTES);
  const slash = name.lastIndexOf('/') + 1;
  const shown = toAscii(joinClean(name.slice(0, slash), 'PaxHeaders.0', name.slice(slash)));
  putText(block, 0, NAME_BYTES, shown.slice(0, NAME_BYTES).replace(/\/+$/, ''));
  for (const [at, length] of [
    [100, 8],
    [108, 8],
    [116, 8],
    [136, 12],
  ] as const)
    putOctal(block, at, length, 0);
  putOctal(block, 124, 12, data.length);
  block[156] = 120;
  return [seal(block), data, Buffer.alloc(padding(data.length))];
}

/** Records by their names. */
export function encodePaxRecords(records: ReadonlyMap<string, Uint8Array>): Buffer {
  const keys = [...records.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return Buffer.concat(keys.map((key) => paxRecord(key, records.get(key)!)));
}

function joinClean(...parts: string[]): string {
  const rooted = parts[0]!.startsWith('/');
  const kept: string[] = [];
  for (const part of parts.join('/').split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..' && kept.length > 0 && kept.at(-1) !== '..') kept.pop();
    else if (part !== '..' || !rooted) kept.push(part);
  }
  return (rooted ? '/' : '') + kept.join('/');
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: Uint8Array): Buffer {
  if (key === '' || key.includes('=') || key.includes('\0')) throw badTar('invalid PAX record');
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length;
  while (length !== rest.length + String(length).length) length = rest.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function putText(block: Buffer, at: number, length: number, text: string): void {
  block.write(text.slice(0, length), at, length, 'latin1');
  // A cut name must not look like that of a directory.
  if (text.length > length && text[length - 1] === '/') {
    const kept = text.slice(0, length).replace(/\/+$/, '').length;
    block[at + kept] = 0;
  }
}

/** A number that does not fit stands in a PAX record, and 0 here. */
export function putOctal(block: Buffer, at: number, length: number, value: number): void {
  const digits = (fitsOctal(value, length) ? value : 0).toString(8).padStart(length - 1, '0');
  block.write(digits, at, length - 1, 'latin1');
}

function seal(block: Buffer): Buffer {
  block.write('ustar\x0000', 257, 'latin1');
  putChecksum(block);
  return block;
}

export function putChecksum(block: Buffer): void {
  let sum = 8 * 32;
  for (let i = 0; i < BLOCK_BYTES; i++) if (i < 148 || i >= 156) sum += block[i]!;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

export function padding(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** Size of the pieces a TarStream hands out. */
export const CHUNK_BYTES = 256 * 1024;

/**
 * Collects headers and file data into chunks of one size (the last is shorter), so that the output does not depend on
 * how it was put in. Full chunks are handed out by the generators; they belong to the taker.
 */
export class TarStream {
  #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #filled = 0;

  *put(bytes: Uint8Array): Generator<Buffer, void, void> {
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, CHUNK_BYTES - this.#filled);
      this.#chunk.set(bytes.subarray(at, at + length), this.#filled);
      this.#filled += length;
      at += length;
      if (this.#filled === CHUNK_BYTES) yield this.#next();
    }
  }

  *header(header: TarHeader): Generator<Buffer, void, void> {
    yield* this.put(encodeTarHeader(header));
  }

  /** Exactly `size` bytes of the open file and padding. @throws when the file is shorter; it may be longer */
  *file(fd: number, size: number): Generator<Buffer, void, void> {
    for (let left = size; left > 0; ) {
      const room = Math.min(left, CHUNK_BYTES - this.#filled);
      const length = readSync(fd, this.#chunk, this.#filled, room, null);
      if (length === 0) throw badTar('file shrank while it was read');
      this.#filled += length;
      left -= length;
      if (this.#filled === CHUNK_BYTES) yield this.#next();
    }
    yield* this.put(TAR_END.subarray(0, padding(size)));
  }

  *finish(): Generator<Buffer, void, void> {
    yield* this.put(TAR_END);
    if (this.#filled > 0) yield this.#chunk.subarray(0, this.#filled);
    this.#filled = 0;
  }

  #next(): Buffer {
    const full = this.#chunk;
    this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    this.#filled = 0;
    return full;
  }
}
