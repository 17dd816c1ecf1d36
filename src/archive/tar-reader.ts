import {
  badTar,
  applyPax,
  BLOCK_BYTES,
  isZeroBlock,
  MAX_SPECIAL_BYTES,
  parsePaxRecords,
} from './tar-header.ts';
import { parseTarBlock, type TarHeader, WITHOUT_DATA } from './tar-header.ts';

/** Takes entries as they come. All calls are synchronous. */
export interface TarHandler {
  /** A new entry; its data follows in `data` calls, `size` bytes in all. */
  entry(header: TarHeader): void;
  /** A piece of the present entry's data; only valid during the call. */
  data(chunk: Buffer): void;
  /** The present entry is complete. */
  end(): void;
}

const SPECIAL = new Set(['x', 'g', 'L', 'K']);
type State = 'header' | 'special' | 'data' | 'padding' | 'done';

/**
 * Reads an archive from chunks of any size: ustar, PAX, GNU long names, base-256 numbers. Sparse files are refused.
 * What follows the two closing zero blocks is ignored, as is a global PAX header.
 */
export class TarReader {
  readonly #handler: TarHandler;
  #state: State = 'header';
  /** Incomplete header block. */
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #filled = 0;
  /** Bytes of data still to come, and of padding behind it. */
  #left = 0;
  #padding = 0;
  #special: { readonly type: string; readonly data: Buffer } | undefined;
  #pax: ReadonlyMap<string, Buffer> | undefined;
  #longName: string | undefined;
  #longLink: string | undefined;
  #zeroBlocks = 0;

  constructor(handler: TarHandler) {
    this.#handler = handler;
  }

  push(chunk: Uint8Array): void {
    const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let at = 0; at < buffer.length && this.#state !== 'done'; ) at += this.#step(buffer, at);
  }

  /** To be called when the input ends. @throws BuildError `unexpected EOF` within an entry */
  close(): void {
    // Some writers stop right after the last file's data, without padding or closing blocks.
    const between = this.#state === 'padding' || (this.#state === 'header' && this.#filled === 0);
    const clean = this.#state === 'done' || between;
    const open = this.#pax !== undefined || this.#longName !== undefined || this.#longLink !== undefined;
    if (!clean || (open && this.#state !== 'done')) throw badTar('unexpected EOF');
  }

  /** Returns how many bytes it used. */
  #step(buffer: Buffer, at: number): number {
    const available = buffer.length - at;
    if (this.#state === 'header') return this.#fillBlock(buffer, at);
    if (this.#state === 'padding') {
      const skipped = Math.min(available, this.#padding);
      this.#padding -= skipped;
      if (this.#padding === 0) this.#state = 'header';
      return skipped;
    }
    const length = Math.min(available, this.#left);
    const piece = buffer.subarray(at, at + length);
    if (this.#special) piece.copy(this.#special.data, this.#special.data.length - this.#left);
    else this.#handler.data(piece);
    this.#left -= length;
    if (this.#left === 0) this.#endData();
    return length;
  }

  #fillBlock(buffer: Buffer, at: number): number {
    const length = Math.min(buffer.length - at, BLOCK_BYTES - this.#filled);
    if (length === BLOCK_BYTES) {
      this.#header(buffer.subarray(at, at + BLOCK_BYTES));
      return length;
    }
    buffer.copy(this.#block, this.#filled, at, at + length);
    this.#filled += length;
    if (this.#filled === BLOCK_BYTES) {
      this.#filled = 0;
      this.#header(this.#block);
    }
    return length;
  }

  #header(block: Buffer): void {
    if (isZeroBlock(block)) {
      if (++this.#zeroBlocks === 2) this.#state = 'done';
      return;
    }
    if (this.#zeroBlocks > 0) throw badTar();
    const raw = parseTarBlock(block);
    if (SPECIAL.has(raw.type)) {
      if (raw.size > MAX_SPECIAL_BYTES) throw badTar('header field too long');
      this.#special = { type: raw.type, data: Buffer.alloc(raw.size) };
      this.#startData(raw.size);
      return;
    }
    if (raw.type === 'S') throw badTar('sparse files are not supported');
    let header = this.#pax ? applyPax(raw, this.#pax) : raw;
    const name = this.#pax?.has('path') ? header.name : (this.#longName ?? header.name);
    const linkname = this.#pax?.has('linkpath') ? header.linkname : (this.#longLink ?? header.linkname);
    const size = WITHOUT_DATA.has(header.type) ? 0 : header.size;
    header = { ...header, name, linkname, size };
    this.#pax = undefined;
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#handler.entry(header);
    this.#startData(size);
  }

  #startData(size: number): void {
    this.#left = size;
    this.#padding = (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
    this.#state = this.#special ? 'special' : 'data';
    if (size === 0) this.#endData();
  }

  #endData(): void {
    this.#state = this.#padding > 0 ? 'padding' : 'header';
    const special = this.#special;
    if (!special) {
      this.#handler.end();
      return;
    }
    this.#special = undefined;
    if (special.type === 'x') this.#pax = parsePaxRecords(special.data);
    else if (special.type !== 'g') {
      const zero = special.data.indexOf(0);
      const text = special.data.toString('utf8', 0, zero < 0 ? special.data.length : zero);
      if (special.type === 'L') this.#longName = text;
      else this.#longLink = text;
    }
  }
}

/** All entries of an archive with their data, for small archives. @param maxBytes bound of the data of all entries */
export function readTarEntries(
  archive: Uint8Array,
  maxBytes: number,
): { readonly header: TarHeader; readonly data: Buffer }[] {
  const entries: { header: TarHeader; data: Buffer }[] = [];
  let pieces: Buffer[] = [];
  let total = 0;
  const reader = new TarReader({
    entry: (header) => {
      pieces = [];
      entries.push({ header, data: Buffer.alloc(0) });
    },
    data: (chunk) => {
      total += chunk.length;
      if (total > maxBytes) throw badTar('archive too large');
      pieces.push(Buffer.from(chunk));
    },
    end: () => {
      entries.at(-1)!.data = Buffer.concat(pieces);
    },
  });
  reader.push(archive);
  reader.close();
  return entries;
}
