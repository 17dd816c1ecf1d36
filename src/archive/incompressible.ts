import { deflateRawSync } from 'node:zlib';

/** Data that is looked at and stored as one piece. */
const SEGMENT_BYTES = 256 << 10;
/** Smaller ends of data are not worth a look. */
const MIN_BYTES = 32 << 10;
/** Distance of the bytes that are counted; odd, so that tables of equal records do not all show the same column. */
const STRIDE = 17;
/** Bits of a byte, by how often each value occurs; data that was compressed already has 7.98 and more. */
const MIN_ENTROPY_BITS = 7.9;
/** Places of a segment that are tried out, and the bytes of each. */
const SAMPLES = 3;
const SAMPLE_BYTES = 4 << 10;
/** Part of a sample that compression must save to be worth its time. */
const MIN_SAVED = 0.02;
/** Data of one stored block at most (RFC 1951 section 3.2.4). */
const MAX_STORED_BYTES = 0xffff;

/** A piece of data that is to be compressed, or stored because that would gain nothing. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  readonly stored: boolean;
}

/**
 * Cuts data where it turns from compressible to not, or back: archives, pictures and the like take deflate longest of
 * all and do not get smaller. Neighbours of one kind are one segment. Depends on the bytes alone.
 */
export function segments(data: Buffer): Segment[] {
  const found: Segment[] = [];
  for (let start = 0; start < data.length; start += SEGMENT_BYTES) {
    const end = Math.min(start + SEGMENT_BYTES, data.length);
    const stored = isIncompressible(data.subarray(start, end));
    const last = found.at(-1);
    if (last?.stored === stored) found[found.length - 1] = { ...last, end };
    else found.push({ start, end, stored });
  }
  return found;
}

/** Whether samples of the data say that deflate would save nothing worth its time. */
export function isIncompressible(data: Buffer): boolean {
  if (data.length < MIN_BYTES || entropyBits(data) < MIN_ENTROPY_BITS) return false;
  const gap = Math.floor((data.length - SAMPLE_BYTES) / (SAMPLES - 1));
  const pieces = Array.from({ length: SAMPLES }, (_, i) => data.subarray(i * gap, i * gap + SAMPLE_BYTES));
  const sample = Buffer.concat(pieces);
  return deflateRawSync(sample, { level: 1 }).length > sample.length * (1 - MIN_SAVED);
}

function entropyBits(data: Buffer): number {
  const counts = new Uint32Array(256);
  let total = 0;
  for (let i = 0; i < data.length; i += STRIDE, total++) counts[data[i]!]!++;
  let sum = 0;
  for (const count of counts) if (count > 0) sum += count * Math.log2(count);
  return Math.log2(total) - sum / total;
}

/** Deflate blocks that hold the data as it is; none of them is the last one of its stream. They share its memory. */
export function storedBlocks(data: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < data.length; at += MAX_STORED_BYTES) {
    const block = data.subarray(at, at + MAX_STORED_BYTES);
    const header = Buffer.alloc(5);
    header.writeUInt16LE(block.length, 1);
    header.writeUInt16LE(0xffff - block.length, 3);
    pieces.push(header, block);
  }
  return pieces;
}
