import {
  applyPax,
  badTar,
  BLOCK_BYTES,
  isZeroBlock,
  MAX_SPECIAL_BYTES,
  parsePaxRecords,
  parsePaxTime,
  parseTarBlock,
  tarNumber,
  type TarHeader,
  WITHOUT_DATA,
} from './tar-header.ts';
import { encodePaxRecords, fitsOctal, padding, putChecksum, putOctal, TarStream } from './tar-writer.ts';

/** Places of numbers in a header block. */
const SIZE = { at: 124, length: 12 };
const MTIME = { at: 136, length: 12 };
/** Of access and change, in blocks of the GNU kind. */
const GNU_TIMES = [345, 357].map((at) => ({ at, length: 12 }));
/** Numbers of a device; some archivers leave them empty for all else, which gives another digest. */
const DEVICE = [329, 337].map((at) => ({ at, length: 8 }));
const PAX_TIMES = ['mtime', 'atime', 'ctime'];

/**
 * An archive in which no time is later than `maxTimeSec`, seconds since 1970. All else stays as it is, but what
 * follows the archive's end and device numbers that are left empty: BuildKit writes zeros there.
 * @throws BuildError for what is no archive
 */
export async function* clampTimes(
  archive: AsyncIterable<Uint8Array>,
  maxTimeSec: number,
): AsyncGenerator<Buffer, void, void> {
  const stream = new TarStream();
  const clamper = new TimeClamper(maxTimeSec);
  for await (const chunk of archive) {
    for (const piece of clamper.take(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)))
      yield* stream.put(piece);
    if (clamper.isDone) break;
  }
  clamper.close();
  yield* stream.finish();
}

class TimeClamper {
  readonly #max: number;
  /** A header block that is not whole yet; of PAX records with all of them. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #wanted = BLOCK_BYTES;
  /** Bytes of the present entry that are still to pass, and of padding behind it. */
  #left = 0;
  #padding = 0;
  /** Records for the next header. */
  #pax: ReadonlyMap<string, Buffer> | undefined;
  /** The next header's own time is not the one that counts. */
  #isLate = false;
  isDone = false;

  constructor(maxTimeSec: number) {
    if (!fitsOctal(maxTimeSec, MTIME.length)) throw badTar(`a header cannot hold the time ${maxTimeSec}`);
    this.#max = maxTimeSec;
  }

  *take(chunk: Buffer): Generator<Buffer, void, void> {
    for (let at = 0; at < chunk.length && !this.isDone; ) {
      const length = this.#left || this.#padding || this.#wanted - this.#heldBytes;
      const piece = chunk.subarray(at, at + length);
      at += piece.length;
      if (this.#left > 0) {
        this.#left -= piece.length;
        yield piece;
        if (this.#left === 0) yield Buffer.alloc(this.#padding);
      } else if (this.#padding > 0) this.#padding -= piece.length;
      else {
        this.#held.push(Buffer.from(piece));
        this.#heldBytes += piece.length;
        if (this.#heldBytes === this.#wanted) yield* this.#whole();
      }
    }
  }

  /** @throws when the input ended within an entry; padding may be missing */
  close(): void {
    const isOpen = this.#left > 0 || this.#heldBytes > 0 || this.#pax !== undefined;
    if (isOpen && !this.isDone) throw badTar('unexpected EOF');
  }

  *#whole(): Generator<Buffer, void, void> {
    const held = Buffer.concat(this.#held);
    const block = held.subarray(0, BLOCK_BYTES);
    if (isZeroBlock(block)) {
      this.isDone = true;
      return;
    }
    const header = parseTarBlock(block);
    if (header.type === 'S') throw badTar('sparse files are not supported');
    if (header.type === 'x' && held.length === BLOCK_BYTES && header.size > 0) {
      if (header.size > MAX_SPECIAL_BYTES) throw badTar('header field too long');
      this.#held = [held];
      this.#wanted += header.size + padding(header.size);
      return;
    }
    this.#held = [];
    this.#heldBytes = 0;
    this.#wanted = BLOCK_BYTES;
    if (header.type === 'x')
      yield* this.#records(block, held.subarray(BLOCK_BYTES, BLOCK_BYTES + header.size));
    else yield this.#entry(block, header);
  }

  /** Late times are taken out: the header of the entry has room for the one that counts. */
  *#records(block: Buffer, data: Buffer): Generator<Buffer, void, void> {
    const records = parsePaxRecords(data);
    this.#pax = records;
    const late = PAX_TIMES.filter((key) => isLater(records.get(key), this.#max));
    if (late.length === 0) {
      yield* [block, data, Buffer.alloc(padding(data.length))];
      return;
    }
    this.#isLate = late.includes('mtime');
    const kept = new Map<string, Uint8Array>(records);
    for (const key of late) kept.set(key, Buffer.from(String(this.#max)));
    if (this.#isLate) kept.delete('mtime');
    if (kept.size === 0) return;
    const encoded = encodePaxRecords(kept);
    yield* [patched(block, [[SIZE, encoded.length]]), encoded, Buffer.alloc(padding(encoded.length))];
  }

  #entry(block: Buffer, header: TarHeader): Buffer {
    const special = header.type === 'L' || header.type === 'K' || header.type === 'g';
    const { size } = this.#pax && !special ? applyPax(header, this.#pax) : header;
    this.#left = WITHOUT_DATA.has(header.type) ? 0 : size;
    this.#padding = padding(this.#left);
    const changes: [Field, number][] = [];
    if (header.mtime.sec > this.#max || (this.#isLate && !special)) changes.push([MTIME, this.#max]);
    const magic = block.toString('latin1', 257, 265);
    if (magic === 'ustar  \0') {
      for (const field of GNU_TIMES)
        if (tarNumber(block, field.at, field.length) > this.#max) changes.push([field, this.#max]);
    }
    if (!special && magic.startsWith('ustar')) {
      for (const field of DEVICE) if (block[field.at] === 0) changes.push([field, 0]);
    }
    if (!special) {
      this.#pax = undefined;
      this.#isLate = false;
    }
    return changes.length > 0 ? patched(block, changes) : block;
  }
}

interface Field {
  readonly at: number;
  readonly length: number;
}

function patched(block: Buffer, changes: readonly (readonly [Field, number])[]): Buffer {
  const copy = Buffer.from(block);
  for (const [{ at, length }, value] of changes) {
    putOctal(copy, at, length, value);
    copy[at + length - 1] = 0;
  }
  putChecksum(copy);
  return copy;
}

function isLater(record: Buffer | undefined, max: number): boolean {
  if (record === undefined || record.length === 0) return false;
  const { sec, nsec } = parsePaxTime(record.toString());
  return sec > max || (sec === max && nsec > 0);
}
