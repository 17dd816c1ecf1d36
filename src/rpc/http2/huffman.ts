import { ErrorCode, ProtocolError } from './frames.ts';

/**
 * Huffman code of header strings (RFC 7541, appendix B). The code is canonical, so the lengths of the codes tell
 * everything; here `length` or `length x run` for the 256 bytes in order. The end-of-string symbol, 30 ones, is never sent.
 */
const LENGTHS =
  '13 23 28x7 24 30 28x2 30 28x8 30 28x9 6 10x2 12 13 6 8 11 10x2 8 11 8 6x3 5x3 6x7 7 8 15 6 12 10 13 6 7x22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6x3 5 7x2 6x3 5 6 7 6 5x2 6 7x5 15 11 14 13 28 20 22 20x2 22x3 23 22 23x5 24 23 24x2 22 23 24 23x4 21 22 23 22 23x2 24 22 21 20 22x2 23x2 21 23 22x2 24 21 22 23x2 21x2 22 21 23 22 23x2 20 22x3 23 22x2 23 26x2 20 19 22 23 22 25 26x3 27x2 26 24 25 19 21 26 27x2 26 27 24 21x2 26x2 28 27x3 20 24 20 21 22 21x2 23 22x2 25x2 24x2 26 23 26 27 26x2 27x5 28 27x5 26';
const LEAF = 0x8000;

/**
 * Tables of 256 entries, each for the next eight bits: a leaf is `LEAF | byte << 4 | bits used` (1 to 8),
 * anything else is where the next table begins. Zero: no such code.
 */
let tables: Uint16Array | undefined;

function lengths(): number[] {
  return LENGTHS.split(' ').flatMap((entry) => {
    const [length, run = '1'] = entry.split('x');
    return Array.from({ length: Number(run) }, () => Number(length));
  });
}

function build(): Uint16Array {
  const bits = lengths();
  const order = bits
    .map((_, byte) => byte)
    .sort((a, b) => (bits[a] as number) - (bits[b] as number) || a - b);
  const grown: number[] = new Array(256).fill(0);
  let code = 0;
  let length = 0;
  for (const byte of order) {
    const size = bits[byte] as number;
    code *= 2 ** (size - length);
    length = size;
    insert(grown, code, size, byte);
    code++;
  }
  return Uint16Array.from(grown);
}

function insert(tables: number[], code: number, size: number, byte: number): void {
  let table = 0;
  let left = size;
  while (left > 8) {
    left -= 8;
    const at = table + (Math.floor(code / 2 ** left) & 255);
    if (tables[at] === 0) {
      tables[at] = tables.length;
      for (let i = 0; i < 256; i++) tables.push(0);
    }
    table = tables[at] as number;
  }
  const first = (code << (8 - left)) & 255;
  for (let i = 0; i < 1 << (8 - left); i++) tables[table + first + i] = LEAF | (byte << 4) | left;
}

/** @throws ProtocolError for codes that do not exist and wrong padding */
export function huffmanDecode(input: Buffer): Buffer {
  tables ??= build();
  // The shortest code has five bits.
  const out = Buffer.allocUnsafe(Math.ceil((input.length * 8) / 5));
  let size = 0;
  let pending = 0;
  let bits = 0;
  let table = 0;
  for (const byte of input) {
    pending = ((pending & 0xff) << 8) | byte;
    bits += 8;
    while (bits >= 8) {
      const entry = tables[table + ((pending >>> (bits - 8)) & 255)] as number;
      if (entry & LEAF) {
        out[size++] = (entry >> 4) & 255;
        bits -= entry & 15;
        table = 0;
      } else if (entry === 0) throw broken();
      else {
        table = entry;
        bits -= 8;
      }
    }
  }
  while (bits > 0) {
    const entry = tables[table + ((pending << (8 - bits)) & 255)] as number;
    if (!(entry & LEAF) || (entry & 15) > bits) break;
    out[size++] = (entry >> 4) & 255;
    bits -= entry & 15;
    table = 0;
  }
  const ones = (1 << bits) - 1;
  if (table !== 0 || (pending & ones) !== ones) throw broken();
  return out.subarray(0, size);
}

function broken(): ProtocolError {
  return new ProtocolError('a header string with a broken code', ErrorCode.compressionError);
}
