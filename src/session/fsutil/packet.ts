import { Packet_PacketType } from '../../pb/fsutil.ts';
import type { MessageType } from '../../rpc/types.ts';
import type { FsStat } from './stat.ts';

/**
 * Codec of fsutil.types.Packet by hand: file transfer encodes and decodes one for each file and each
 * 32 KiB of data. A test holds it against the generated code.
 */
export interface FsPacket {
  readonly type: number;
  readonly stat?: FsStat | undefined;
  readonly id?: number;
  readonly data?: Uint8Array | undefined;
}

export const PacketType = Packet_PacketType;

const EMPTY = new Uint8Array(0);
/** Data below this size is copied behind the rest of its packet. */
const COPY_BELOW_BYTES = 4096;

export const packetCodec: MessageType<FsPacket> = {
  encode: (message) => ({ finish: () => Buffer.concat(encodePacket(message, 0)) }),
  decode: decodePacket,
  encodeParts: encodePacket,
  strict: true,
};

/** Bytes that the packet takes on the wire; progress is counted in them. */
export function packetSize({ type, stat, id = 0, data = EMPTY }: FsPacket): number {
  const inner = stat ? measureStat(stat).size : undefined;
  return (
    (type === 0 ? 0 : 1 + varintSize(type)) +
    (inner === undefined ? 0 : 1 + varintSize(inner) + inner) +
    (id === 0 ? 0 : 1 + varintSize(id)) +
    (data.length === 0 ? 0 : 1 + varintSize(data.length) + data.length)
  );
}

/** The data is a piece of its own when copying it would cost more. */
function encodePacket(packet: FsPacket, headroom: number): [Uint8Array, ...Uint8Array[]] {
  const stat = packet.stat ? measureStat(packet.stat) : undefined;
  const id = packet.id ?? 0;
  const data = packet.data ?? EMPTY;
  let size = headroom;
  if (packet.type !== 0) size += 1 + varintSize(packet.type);
  if (stat) size += 1 + varintSize(stat.size) + stat.size;
  if (id !== 0) size += 1 + varintSize(id);
  const apart = data.length >= COPY_BELOW_BYTES;
  if (data.length > 0) size += 1 + varintSize(data.length) + (apart ? 0 : data.length);
  const out = new Writer(Buffer.allocUnsafe(size), headroom);
  if (packet.type !== 0) out.field(1, packet.type);
  if (stat && packet.stat) {
    out.length(2, stat.size);
    writeStat(out, packet.stat, stat.xattrs);
  }
  if (id !== 0) out.field(3, id);
  if (data.length > 0) {
    out.length(4, data.length);
    if (apart) return [out.buffer, data];
    out.buffer.set(data, out.at);
  }
  return [out.buffer];
}

/** Bytes of an encoded Stat alone. */
export function encodeStat(stat: FsStat): Uint8Array {
  const measured = measureStat(stat);
  const out = new Writer(Buffer.allocUnsafe(measured.size), 0);
  writeStat(out, stat, measured.xattrs);
  return out.buffer;
}

interface XattrSize {
  readonly key: Buffer;
  readonly value: Uint8Array;
  readonly size: number;
}

function measureStat(stat: FsStat): { size: number; xattrs: readonly XattrSize[] } {
  const xattrs = Object.entries(stat.xattrs ?? {}).map(([name, value]) => {
    const key = Buffer.from(name);
    // A map entry keeps both fields, empty ones too.
    return {
      key,
      value,
      size: 2 + varintSize(key.length) + key.length + varintSize(value.length) + value.length,
    };
  });
  let size = textSize(stat.path) + textSize(stat.linkname);
  for (const n of [stat.mode, stat.uid, stat.gid, stat.size, stat.devmajor, stat.devminor])
    if (n !== 0) size += 1 + varintSize(n);
  if (stat.modTime !== 0n) size += 1 + bigVarintSize(stat.modTime);
  for (const x of xattrs) size += 1 + varintSize(x.size) + x.size;
  return { size, xattrs };
}

function writeStat(out: Writer, stat: FsStat, xattrs: readonly XattrSize[]): void {
  out.text(1, stat.path);
  if (stat.mode !== 0) out.field(2, stat.mode);
  if (stat.uid !== 0) out.field(3, stat.uid);
  if (stat.gid !== 0) out.field(4, stat.gid);
  if (stat.size !== 0) out.field(5, stat.size);
  if (stat.modTime !== 0n) out.bigField(6, stat.modTime);
  out.text(7, stat.linkname);
  if (stat.devmajor !== 0) out.field(8, stat.devmajor);
  if (stat.devminor !== 0) out.field(9, stat.devminor);
  for (const x of xattrs) {
    out.length(10, x.size);
    out.bytes(1, x.key);
    out.bytes(2, x.value);
  }
}

function textSize(text: string): number {
  if (text === '') return 0;
  const bytes = Buffer.byteLength(text);
  return 1 + varintSize(bytes) + bytes;
}

/** For values from -2^53 to 2^53; negative ones take ten bytes, as the wire has it. */
function varintSize(value: number): number {
  if (value < 0) return 10;
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}

function bigVarintSize(value: bigint): number {
  let size = 1;
  for (let rest = BigInt.asUintN(64, value); rest >= 128n; rest >>= 7n) size++;
  return size;
}

class Writer {
  readonly buffer: Buffer;
  at: number;

  constructor(buffer: Buffer, at: number) {
    this.buffer = buffer;
    this.at = at;
  }

  #varint(value: number): void {
    if (value < 0) {
      this.#bigVarint(BigInt(value));
      return;
    }
    let rest = value;
    while (rest >= 128) {
      this.buffer[this.at++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.buffer[this.at++] = rest;
  }

  #bigVarint(value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    while (rest >= 128n) {
      this.buffer[this.at++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.buffer[this.at++] = Number(rest);
  }

  field(number: number, value: number): void {
    this.buffer[this.at++] = number << 3;
    this.#varint(value);
  }

  bigField(number: number, value: bigint): void {
    this.buffer[this.at++] = number << 3;
    this.#bigVarint(value);
  }

  length(number: number, size: number): void {
    this.buffer[this.at++] = (number << 3) | 2;
    this.#varint(size);
  }

  bytes(number: number, value: Uint8Array): void {
    this.length(number, value.length);
    this.buffer.set(value, this.at);
    this.at += value.length;
  }

  text(number: number, value: string): void {
    if (value === '') return;
    this.length(number, Buffer.byteLength(value));
    this.at += this.buffer.write(value, this.at);
  }
}

/** Reads fields off a buffer. Every read past the end is an error, never a short value. */
class Reader {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  /** Value modulo 2^64 as a number: exact below 2^53, negative values as such. */
  varint(): number {
    let value = 0;
    let scale = 1;
    const start = this.at;
    for (let i = 0; i < 10; i++) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) break;
      value += (byte & 127) * scale;
      if (byte < 128) return i < 7 ? value : Number(BigInt.asIntN(64, this.#big(start)));
      scale *= 128;
    }
    throw new RangeError('truncated or oversized varint');
  }

  bigVarint(): bigint {
    const start = this.at;
    this.varint();
    return BigInt.asIntN(64, this.#big(start));
  }

  #big(start: number): bigint {
    let value = 0n;
    for (let at = start, shift = 0n; at < this.at; at++, shift += 7n)
      value |= BigInt((this.bytes[at] as number) & 127) << shift;
    return value;
  }

  slice(): Buffer {
    const size = this.varint();
    const end = this.at + size;
    if (size < 0 || end > this.bytes.length) throw new RangeError('truncated field');
    const part = this.bytes.subarray(this.at, end);
    this.at = end;
    return part;
  }

  skip(wireType: number): void {
    if (wireType === 0) this.varint();
    else if (wireType === 2) this.slice();
    else if (wireType === 1 || wireType === 5) this.at += wireType === 1 ? 8 : 4;
    else throw new RangeError(`unsupported wire type ${wireType}`);
    if (this.at > this.bytes.length) throw new RangeError('truncated field');
  }
}

function decodePacket(bytes: Uint8Array): FsPacket {
  const input = new Reader(bytes);
  let type = 0;
  let id = 0;
  let stat: FsStat | undefined;
  let data: Uint8Array = EMPTY;
  while (!input.done) {
    const tag = input.varint();
    if (tag === 8) type = input.varint() | 0;
    else if (tag === 18) stat = decodeStat(input.slice());
    else if (tag === 24) id = input.varint() >>> 0;
    else if (tag === 34) data = input.slice();
    else input.skip(tag & 7);
  }
  return { type, stat, id, data };
}

export function emptyStat(): FsStat {
  return {
    path: '',
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0,
    modTime: 0n,
    linkname: '',
    devmajor: 0,
    devminor: 0,
    xattrs: undefined,
  };
}

export function decodeStat(bytes: Uint8Array): FsStat {
  const input = new Reader(bytes);
  const stat = emptyStat();
  while (!input.done) {
    const tag = input.varint();
    if (tag === 10) stat.path = input.slice().toString('utf8');
    else if (tag === 16) stat.mode = input.varint() >>> 0;
    else if (tag === 24) stat.uid = input.varint() >>> 0;
    else if (tag === 32) stat.gid = input.varint() >>> 0;
    else if (tag === 40) stat.size = input.varint();
    else if (tag === 48) stat.modTime = input.bigVarint();
    else if (tag === 58) stat.linkname = input.slice().toString('utf8');
    else if (tag === 64) stat.devmajor = input.varint();
    else if (tag === 72) stat.devminor = input.varint();
    else if (tag === 82) stat.xattrs = { ...stat.xattrs, ...decodeXattr(input.slice()) };
    else input.skip(tag & 7);
  }
  return stat;
}

function decodeXattr(bytes: Uint8Array): Record<string, Uint8Array> {
  const input = new Reader(bytes);
  let key = '';
  let value: Uint8Array = EMPTY;
  while (!input.done) {
    const tag = input.varint();
    if (tag === 10) key = input.slice().toString('utf8');
    else if (tag === 18) value = Buffer.from(input.slice());
    else input.skip(tag & 7);
  }
  return { [key]: value };
}
