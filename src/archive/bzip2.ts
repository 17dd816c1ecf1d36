import { BuildError, Code } from '../base/errors.ts';
import { ByteSource } from './byte-source.ts';

const BLOCK_MAGIC = 0x314159265359;
const END_MAGIC = 0x177245385090;
const GROUP = 50;
const MAX_CODE_BITS = 20;
/** Most input of one block: 900 kB of symbols of at most 20 bits, and tables. */
const MAX_BLOCK_INPUT_BYTES = 3 << 20;

function corrupt(): BuildError {
  return new BuildError('bzip2 data invalid', { code: Code.invalidArgument });
}

/** Unpacks bzip2 streams, one block at a time. Check sums are verified. */
export async function* bunzip2(input: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, void> {
  const source = new ByteSource(input);
  try {
    for (let first = true; await source.need(4); first = false) {
      const head = source.take(4);
      const level = head[3]! - 48;
      if (head[0] !== 0x42 || head[1] !== 0x5a || head[2] !== 0x68 || level < 1 || level > 9) {
        if (first) throw corrupt();
        return;
      }
      yield* stream(new Bits(source), level * 100_000);
    }
  } finally {
    await source.close();
  }
}

async function* stream(bits: Bits, blockSize: number): AsyncGenerator<Buffer, void, void> {
  let combined = 0;
  for (;;) {
    await bits.fill();
    const magic = bits.read(24) * 0x1000000 + bits.read(24);
    const sum = bits.read(16) * 0x10000 + bits.read(16);
    if (magic === END_MAGIC) {
      if (sum !== combined) throw corrupt();
      bits.align();
      return;
    }
    if (magic !== BLOCK_MAGIC) throw corrupt();
    const block = decodeBlock(bits, blockSize);
    if (crc(block) !== sum) throw corrupt();
    combined = (((combined << 1) | (combined >>> 31)) ^ sum) >>> 0;
    if (block.length > 0) yield block;
  }
}

/** Reads bits, highest first. */
class Bits {
  readonly #source: ByteSource;
  #value = 0;
  #count = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Has a whole block at hand, or all there is. */
  async fill(): Promise<void> {
    await this.#source.need(MAX_BLOCK_INPUT_BYTES);
  }

  /** At most 24. */
  read(count: number): number {
    while (this.#count < count) {
      if (this.#source.available === 0) throw corrupt();
      this.#value = ((this.#value & 0xffffff) << 8) | this.#source.byte();
      this.#count += 8;
    }
    this.#count -= count;
    return (this.#value >>> this.#count) & ((1 << count) - 1);
  }

  align(): void {
    this.#count = 0;
  }
}

function decodeBlock(bits: Bits, blockSize: number): Buffer {
  if (bits.read(1) !== 0) throw new BuildError('bzip2: randomised blocks are not supported');
  const origin = bits.read(24);
  const used = symbolMap(bits);
  const groups = bits.read(3);
  const selectorCount = bits.read(15);
  if (used.length === 0 || groups < 2 || groups > 6 || selectorCount === 0) throw corrupt();
  const selectors = readSelectors(bits, groups, selectorCount);
  const tables = Array.from({ length: groups }, () => readTable(bits, used.length + 2));
  const sorted = readSymbols(bits, used, selectors, tables, blockSize);
  if (origin >= sorted.length) throw corrupt();
  return unsort(sorted, origin);
}

function symbolMap(bits: Bits): number[] {
  const ranges = bits.read(16);
  const used: number[] = [];
  for (let i = 0; i < 16; i++) {
    if (!(ranges & (0x8000 >> i))) continue;
    const members = bits.read(16);
    for (let j = 0; j < 16; j++) if (members & (0x8000 >> j)) used.push(i * 16 + j);
  }
  return used;
}

function readSelectors(bits: Bits, groups: number, count: number): Uint8Array {
  const order = Array.from({ length: groups }, (_, i) => i);
  const selectors = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    let at = 0;
    while (bits.read(1)) if (++at >= groups) throw corrupt();
    order.unshift(...order.splice(at, 1));
    selectors[i] = order[0]!;
  }
  return selectors;
}

interface CodeTable {
  /** By length: the largest code, and what to take off a code to get its place in `symbols`. */
  readonly limits: Int32Array;
  readonly offsets: Int32Array;
  readonly symbols: Uint16Array;
}

function readTable(bits: Bits, symbols: number): CodeTable {
  const lengths = new Uint8Array(symbols);
  let length = bits.read(5);
  for (let i = 0; i < symbols; i++) {
    for (;;) {
      if (length < 1 || length > MAX_CODE_BITS) throw corrupt();
      if (!bits.read(1)) break;
      length += bits.read(1) ? -1 : 1;
    }
    lengths[i] = length;
  }
  const limits = new Int32Array(MAX_CODE_BITS + 1).fill(-1);
  const offsets = new Int32Array(MAX_CODE_BITS + 1);
  const order = new Uint16Array(symbols);
  let code = 0;
  let placed = 0;
  for (let bitsLong = 1; bitsLong <= MAX_CODE_BITS; bitsLong++) {
    const start = placed;
    for (let i = 0; i < symbols; i++) if (lengths[i] === bitsLong) order[placed++] = i;
    offsets[bitsLong] = code - start;
    code += placed - start;
    if (placed > start) limits[bitsLong] = code - 1;
    code <<= 1;
  }
  return { limits, offsets, symbols: order };
}

function readSymbol(bits: Bits, table: CodeTable): number {
  let code = 0;
  for (let length = 1; length <= MAX_CODE_BITS; length++) {
    code = (code << 1) | bits.read(1);
    if (code <= table.limits[length]!) {
      const symbol = table.symbols[code - table.offsets[length]!];
      if (symbol === undefined) throw corrupt();
      return symbol;
    }
  }
  throw corrupt();
}

/** Runs and moves to the front, undone: the block as it was sorted. */
function readSymbols(
  bits: Bits,
  used: readonly number[],
  selectors: Uint8Array,
  tables: readonly CodeTable[],
  blockSize: number,
): Uint8Array {
  const out = new Uint8Array(blockSize);
  const front = Uint8Array.from(used);
  const end = used.length + 1;
  let size = 0;
  let run = 0;
  let weight = 1;
  for (let read = 0; ; read++) {
    const table = tables[selectors[Math.floor(read / GROUP)] ?? tables.length];
    if (!table) throw corrupt();
    const symbol = readSymbol(bits, table);
    if (symbol < 2) {
      run += weight << symbol;
      weight <<= 1;
      if (run > blockSize) throw corrupt();
      continue;
    }
    if (size + run > blockSize) throw corrupt();
    out.fill(front[0]!, size, size + run);
    size += run;
    run = 0;
    weight = 1;
    if (symbol === end) return out.subarray(0, size);
    if (size >= blockSize) throw corrupt();
    const value = front[symbol - 1]!;
    for (let i = symbol - 1; i > 0; i--) front[i] = front[i - 1]!;
    front[0] = value;
    out[size++] = value;
  }
}

/** Undoes the Burrows-Wheeler transform and the first run-length coding. */
function unsort(sorted: Uint8Array, origin: number): Buffer {
  const starts = new Uint32Array(257);
  for (const byte of sorted) starts[byte + 1]!++;
  for (let i = 1; i < 257; i++) starts[i]! += starts[i - 1]!;
  const next = new Uint32Array(sorted.length);
  for (let i = 0; i < sorted.length; i++) next[starts[sorted[i]!]!++] = i;
  let out = Buffer.allocUnsafe(sorted.length + 1024);
  let size = 0;
  let same = 0;
  let last = -1;
  for (let i = 0, at = next[origin]!; i < sorted.length; i++, at = next[at]!) {
    const byte = sorted[at]!;
    const count = same === 4 ? byte : 1;
    if (size + count > out.length) out = Buffer.concat([out], Math.max(out.length * 2, size + count));
    if (same === 4) {
      out.fill(last, size, size + count);
      same = 0;
      last = -1;
    } else {
      out[size] = byte;
      same = byte === last ? same + 1 : 1;
      last = byte;
    }
    size += count;
  }
  return out.subarray(0, size);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let value = i << 24;
  for (let bit = 0; bit < 8; bit++) value = value & 0x80000000 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value >>> 0;
});

function crc(data: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of data) sum = (sum << 8) ^ CRC_TABLE[(sum >>> 24) ^ byte]!;
  return ~sum >>> 0;
}
