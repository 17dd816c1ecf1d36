import { BuildError, Code } from '../base/errors.ts';

export const BLOCK_BYTES = 512;
/** Longest PAX record block or GNU long name that is read. */
export const MAX_SPECIAL_BYTES = 1 << 20;

/** Type flags of tar entries by name. */
export const TarType = {
  file: '0',
  link: '1',
  symlink: '2',
  char: '3',
  block: '4',
  dir: '5',
  fifo: '6',
} as const;

export interface TarTime {
  readonly sec: number;
  readonly nsec: number;
}

/** Types whose size says nothing. */
export const WITHOUT_DATA: ReadonlySet<string> = new Set([
  TarType.link,
  TarType.symlink,
  TarType.char,
  TarType.block,
  TarType.dir,
  TarType.fifo,
]);

/** One entry of an archive. `size` in bytes, of the data that follows; `type` is the flag character. */
export interface TarHeader {
  readonly name: string;
  readonly type: string;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: TarTime;
  /** Of an entry that records one. */
  readonly atime?: TarTime;
  readonly linkname: string;
  readonly uname?: string;
  readonly gname?: string;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Extended attributes by name (SCHILY.xattr records). */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
}

export function badTar(message = 'invalid tar header'): BuildError {
  return new BuildError(`archive/tar: ${message}`, { code: Code.invalidArgument });
}

/** Text up to the first NUL. */
function text(block: Buffer, at: number, length: number): string {
  const end = block.indexOf(0, at);
  return block.toString('utf8', at, end < 0 || end > at + length ? at + length : end);
}

/** Octal digits, or base-256 when the first bit is set. Beyond 2^53 it is an error. */
export function tarNumber(block: Buffer, at: number, length: number): number {
  const first = block[at]!;
  if (first & 0x80) return binary(block, at, length);
  const digits = text(block, at, length).replace(/^[ \0]+|[ \0]+$/g, '');
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) throw badTar();
  return safe(Number.parseInt(digits, 8));
}

function binary(block: Buffer, at: number, length: number): number {
  const negative = (block[at]! & 0x40) !== 0;
  let value = 0n;
  for (let i = 0; i < length; i++) value = (value << 8n) | BigInt(block[at + i]!);
  // The first bit only says "binary".
  value &= (1n << BigInt(length * 8 - 1)) - 1n;
  if (negative) value -= 1n << BigInt(length * 8 - 1);
  return safe(Number(value));
}

function safe(value: number): number {
  if (!Number.isSafeInteger(value)) throw badTar();
  return value;
}

function checksumFits(block: Buffer): boolean {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) {
    const byte = i >= 148 && i < 156 ? 32 : block[i]!;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const stored = tarNumber(block, 148, 8);
  return stored === unsigned || stored === signed;
}

/** True for a block of zeros. */
export function isZeroBlock(block: Buffer): boolean {
  for (let i = 0; i < BLOCK_BYTES; i += 4) if (block.readInt32LE(i) !== 0) return false;
  return true;
}

/** Reads one header block of the v7, ustar, PAX, star or GNU kind. */
export function parseTarBlock(block: Buffer): TarHeader {
  if (!checksumFits(block)) throw badTar();
  const magic = block.toString('latin1', 257, 265);
  const ustar = magic === 'ustar\x0000';
  const gnu = magic === 'ustar  \0';
  const size = tarNumber(block, 124, 12);
  if (size < 0) throw badTar();
  let name = text(block, 0, 100);
  if (ustar) {
    const star = block.toString('latin1', 508, 512) === 'tar\0';
    const prefix = text(block, 345, star ? 131 : 155);
    if (prefix !== '') name = `${prefix}/${name}`;
  }
  let type = String.fromCharCode(block[156]!);
  if (type === '\0') type = name.endsWith('/') ? TarType.dir : TarType.file;
  return {
    name,
    type,
    mode: tarNumber(block, 100, 8) & 0o7777,
    uid: tarNumber(block, 108, 8),
    gid: tarNumber(block, 116, 8),
    size,
    mtime: { sec: tarNumber(block, 136, 12), nsec: 0 },
    linkname: text(block, 157, 100),
    uname: ustar || gnu ? text(block, 265, 32) : '',
    gname: ustar || gnu ? text(block, 297, 32) : '',
    devMajor: ustar || gnu ? tarNumber(block, 329, 8) : 0,
    devMinor: ustar || gnu ? tarNumber(block, 337, 8) : 0,
  };
}

/** Records of a PAX extended header; an empty value takes a record back. */
export function parsePaxRecords(data: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(32, at);
    const digits = space < 0 ? '' : data.toString('latin1', at, space);
    const length = /^[0-9]{1,8}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length < 5 || end > data.length || data[end - 1] !== 10) throw badTar();
    const equals = data.indexOf(61, space);
    if (equals <= space + 1 || equals >= end) throw badTar();
    const key = data.toString('utf8', space + 1, equals);
    const value = data.subarray(equals + 1, end - 1);
    if (key.includes('\0') || (TEXT_RECORDS.has(key) && value.includes(0))) throw badTar();
    if (key.startsWith('GNU.sparse.')) throw badTar('sparse files are not supported');
    records.set(key, value);
    at = end;
  }
  return records;
}

const TEXT_RECORDS: ReadonlySet<string> = new Set(['path', 'linkpath', 'uname', 'gname']);
const XATTR = 'SCHILY.xattr.';

/** The header with its PAX records applied. */
export function applyPax(header: TarHeader, records: ReadonlyMap<string, Buffer>): TarHeader {
  const merged: { -readonly [K in keyof TarHeader]: TarHeader[K] } = { ...header };
  const xattrs = new Map<string, Uint8Array>();
  for (const [key, value] of records) {
    if (key.startsWith(XATTR)) {
      xattrs.set(key.slice(XATTR.length), Buffer.from(value));
      continue;
    }
    if (value.length === 0) continue;
    const string = value.toString();
    if (key === 'path') merged.name = string;
    else if (key === 'linkpath') merged.linkname = string;
    else if (key === 'uname') merged.uname = string;
    else if (key === 'gname') merged.gname = string;
    else if (key === 'uid') merged.uid = paxInteger(string);
    else if (key === 'gid') merged.gid = paxInteger(string);
    else if (key === 'size') merged.size = paxInteger(string);
    else if (key === 'mtime') merged.mtime = parsePaxTime(string);
    else if (key === 'atime') merged.atime = parsePaxTime(string);
  }
  if (merged.size < 0) throw badTar();
  if (xattrs.size > 0) merged.xattrs = xattrs;
  return merged;
}

function paxInteger(value: string): number {
  if (!/^-?[0-9]{1,19}$/.test(value)) throw badTar();
  return safe(Number(value));
}

/** Decimal seconds; more than nine digits of a fraction are cut. */
export function parsePaxTime(value: string): TarTime {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value);
  if (!match) throw badTar();
  const sec = Number(match[2]);
  const nsec = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { sec, nsec };
  return nsec === 0 ? { sec: -sec, nsec } : { sec: -sec - 1, nsec: 1e9 - nsec };
}
