import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { BuildError, Code } from '../base/errors.ts';
import { ByteSource } from './byte-source.ts';
import { corruptXz, Lzma2Decoder } from './lzma2.ts';

const MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]);
const LZMA2_FILTER = 0x21;
/** Largest dictionary: that of `xz -9`, with room to spare. */
const MAX_DICT_BYTES = 128 << 20;
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64] as const;

/** Unpacks .xz streams with the LZMA2 filter; checks are verified (CRC32, CRC64, SHA-256). */
export async function* unxz(input: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, void> {
  const source = new ByteSource(input);
  try {
    do {
      yield* stream(source);
      await skipPadding(source);
    } while (await source.need(1));
  } finally {
    await source.close();
  }
}

/** Zeros between streams, in fours. */
async function skipPadding(source: ByteSource): Promise<void> {
  while ((await source.need(4)) && source.peek(4).every((byte) => byte === 0)) source.take(4);
}

async function must(source: ByteSource, count: number): Promise<Uint8Array> {
  if (!(await source.need(count))) throw new BuildError('unexpected EOF', { code: Code.invalidArgument });
  return source.take(count);
}

async function* stream(source: ByteSource): AsyncGenerator<Buffer, void, void> {
  const head = Buffer.from(await must(source, 12));
  if (!head.subarray(0, 6).equals(MAGIC) || crc32(head.subarray(6, 8)) !== head.readUInt32LE(8))
    throw corruptXz();
  const check = head[7]!;
  if (head[6] !== 0 || check > 15) throw corruptXz();
  for (;;) {
    const size = (await must(source, 1))[0]!;
    if (size === 0) break;
    const rest = Buffer.concat([Uint8Array.of(size), await must(source, size * 4 + 3)]);
    yield* block(source, blockDictSize(rest), check);
  }
  await skipIndex(source);
}

/** Dictionary size out of a block header. */
function blockDictSize(header: Buffer): number {
  const end = header.length - 4;
  if (crc32(header.subarray(0, end)) !== header.readUInt32LE(end)) throw corruptXz();
  const flags = header[1]!;
  let at = 2;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 49; shift += 7) {
      const byte = header[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw corruptXz();
  };
  if (flags & 0x40) varint();
  if (flags & 0x80) varint();
  if ((flags & 3) !== 0 || varint() !== LZMA2_FILTER || varint() !== 1)
    throw new BuildError('xz: only the LZMA2 filter is supported', { code: Code.unimplemented });
  const bits = header[at]! & 0x3f;
  const size = bits >= 40 ? 0xffffffff : (2 | (bits & 1)) * 2 ** ((bits >> 1) + 11);
  if (size > MAX_DICT_BYTES)
    throw new BuildError(`xz: dictionary of ${size} bytes is too large`, { code: Code.resourceExhausted });
  return size;
}

async function* block(
  source: ByteSource,
  dictSize: number,
  check: number,
): AsyncGenerator<Buffer, void, void> {
  const decoder = new Lzma2Decoder(dictSize);
  const sum = new Check(check);
  let packed = 0;
  for (;;) {
    const control = (await must(source, 1))[0]!;
    packed++;
    if (control === 0) break;
    if (control > 2 && control < 0x80) throw corruptXz();
    const stored = control < 0x80;
    const head = Buffer.from(await must(source, stored ? 2 : control >= 0xc0 ? 5 : 4));
    const size = (stored ? 0 : (control & 0x1f) << 16) + head.readUInt16BE(0) + 1;
    const length = stored ? size : head.readUInt16BE(2) + 1;
    const data = await must(source, length);
    packed += head.length + length;
    const out = stored
      ? decoder.stored(data, control === 1)
      : decoder.packed(data, size, (control >> 5) & 3, head[4] ?? 0);
    sum.update(out);
    yield out;
  }
  await must(source, (4 - (packed % 4)) % 4);
  sum.verify(Buffer.from(await must(source, CHECK_BYTES[check]!)));
}

/** Running check of a block. Kinds nobody uses are not verified. */
class Check {
  readonly #kind: number;
  readonly #hash = createHash('sha256');
  #crc32 = 0;
  #low = 0xffffffff;
  #high = 0xffffffff;

  constructor(kind: number) {
    this.#kind = kind;
  }

  update(data: Uint8Array): void {
    if (this.#kind === 1) this.#crc32 = crc32(data, this.#crc32);
    else if (this.#kind === 10) this.#hash.update(data);
    else if (this.#kind === 4) {
      let low = this.#low;
      let high = this.#high;
      for (const byte of data) {
        const at = (low ^ byte) & 0xff;
        low = ((low >>> 8) | (high << 24)) ^ CRC64_LOW[at]!;
        high = (high >>> 8) ^ CRC64_HIGH[at]!;
      }
      this.#low = low;
      this.#high = high;
    }
  }

  verify(stored: Buffer): void {
    const right =
      this.#kind === 1
        ? stored.readUInt32LE(0) === this.#crc32
        : this.#kind === 4
          ? stored.readUInt32LE(0) === ~this.#low >>> 0 && stored.readUInt32LE(4) === ~this.#high >>> 0
          : this.#kind !== 10 || stored.equals(this.#hash.digest());
    if (!right) throw corruptXz();
  }
}

const CRC64_LOW = new Uint32Array(256);
const CRC64_HIGH = new Uint32Array(256);
for (let i = 0; i < 256; i++) {
  let value = BigInt(i);
  for (let bit = 0; bit < 8; bit++) value = value & 1n ? (value >> 1n) ^ 0xc96c5795d7870f42n : value >> 1n;
  CRC64_LOW[i] = Number(value & 0xffffffffn);
  CRC64_HIGH[i] = Number(value >> 32n);
}

/** The index and the footer say nothing that was not checked block by block. */
async function skipIndex(source: ByteSource): Promise<void> {
  let size = 1;
  const varint = async (): Promise<number> => {
    let value = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = (await must(source, 1))[0]!;
      size++;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw corruptXz();
  };
  const records = await varint();
  for (let i = 0; i < records * 2; i++) await varint();
  await must(source, ((4 - (size % 4)) % 4) + 4);
  const footer = await must(source, 12);
  if (footer[10] !== 0x59 || footer[11] !== 0x5a) throw corruptXz();
}
