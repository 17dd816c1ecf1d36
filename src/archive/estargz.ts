import { createHash, type Hash } from 'node:crypto';
import { gzip, gzipSync } from 'node:zlib';
import type { Digest } from '../base/digest.ts';
import { type Compressor, createCompressor } from './compression.ts';
import { encodeFooter, TOC_NAME } from '../oci/estargz.ts';
import { TocWriter, type TocEntry, tocEntry } from './estargz-toc.ts';
import { badTar, type TarHeader, TarType } from './tar-header.ts';
import { TarReader } from './tar-reader.ts';

/** Data of a file that one gzip member holds at most; the format's default. */
const CHUNK_BYTES = 4 << 20;
/** Bytes of the archive in one member at most: a piece of a file and the headers behind it. */
const MEMBER_BYTES = 2 * CHUNK_BYTES;
/** Members that are compressed at the same time, by number and by the bytes of the archive in them. */
const MAX_MEMBERS = 128;
const MAX_WORK_BYTES = 16 << 20;
const DEFAULT_LEVEL = -1;
/** Output of a member that comes in one piece; larger ones come in several of this size. */
const OUTPUT_BYTES = 128 << 10;
/** Members up to this size are compressed on the spot: to hand them to another thread costs more than that. */
const MAX_OWN_BYTES = 32 << 10;
/** What gzip adds to data that cannot be compressed, and more. */
const OVERHEAD_BYTES = 256;

interface Member {
  readonly packed: Buffer | Promise<Buffer>;
  /** Bytes of the archive in it. */
  readonly bytes: number;
  /** The piece of a file that it begins with. */
  readonly entry: TocEntry | undefined;
}

/**
 * Makes an eStargz blob: the archive as it is, cut into gzip members so that each piece of a file begins one, then a
 * table of contents and a footer that tells its place (stargz-snapshotter's docs/estargz.md; FEATURES F8). The
 * members are compressed side by side in the thread pool. Where they are cut depends on the archive alone.
 */
export class EstargzCompressor implements Compressor {
  readonly #level: number;
  readonly #write: (bytes: Uint8Array) => void;
  readonly #unpacked: (bytes: Uint8Array) => void;
  readonly #reader: TarReader;
  readonly #toc = new TocWriter();
  readonly #inWork: Member[] = [];
  #workBytes = 0;
  #written = 0;
  /** The member that is being filled. */
  #parts: Buffer[] = [];
  #partsBytes = 0;
  #start: TocEntry | undefined;
  /** The chunk that is being taken, as far as it is not in a member yet. */
  #chunk: Buffer = Buffer.alloc(0);
  #taken = 0;
  #file: FileDigests | undefined;
  /** Of the table of contents, once the blob is finished. */
  tocDigest: Digest | undefined;

  /**
   * @param level 0-9; gzip's own default when undefined
   * @param unpacked is given what follows the archive when the blob is unpacked
   */
  constructor(
    level: number | undefined,
    write: (bytes: Uint8Array) => void,
    unpacked: (bytes: Uint8Array) => void,
  ) {
    this.#level = level ?? DEFAULT_LEVEL;
    this.#unpacked = unpacked;
    this.#write = (bytes) => {
      this.#written += bytes.length;
      write(bytes);
    };
    this.#reader = new TarReader({
      entry: (header) => this.#entry(header),
      data: (piece) => this.#data(piece),
      end: () => this.#endFile(),
    });
  }

  async push(chunk: Buffer): Promise<void> {
    this.#chunk = chunk;
    this.#taken = 0;
    this.#reader.push(chunk);
    this.#take(chunk.length);
    while (this.#inWork.length > MAX_MEMBERS || this.#workBytes > MAX_WORK_BYTES) await this.#writeOldest();
  }

  /** @throws BuildError for an archive that ends too early, or has a table of contents already */
  async finish(): Promise<void> {
    this.#reader.close();
    this.#endMember();
    while (this.#inWork.length > 0) await this.#writeOldest();
    const offset = this.#written;
    const toc = this.#toc.finish();
    // One member by itself, as readers want it.
    const member = createCompressor('gzip', this.#level, this.#write);
    try {
      for (const bytes of toc.archive()) {
        this.#unpacked(bytes);
        await member.push(bytes);
      }
      await member.finish();
    } finally {
      member.destroy();
    }
    this.#write(encodeFooter(offset));
    this.tocDigest = toc.digest;
  }

  destroy(): void {
    this.#inWork.length = 0;
    this.#parts = [];
  }

  #entry(header: TarHeader): void {
    const name = cleanName(header.name);
    if (name === TOC_NAME)
      throw badTar(
        `a layer with the file ${TOC_NAME} cannot be packed as estargz: the name is taken by its table`,
      );
    const entry = tocEntry(header);
    this.#toc.add(entry);
    if (header.type === TarType.file) this.#file = new FileDigests(header.name, entry, header.size);
  }

  /** `piece` lies in the chunk that is being taken. */
  #data(piece: Buffer): void {
    const file = this.#file;
    if (!file) return;
    for (let at = 0; at < piece.length; ) {
      if (file.isAtChunk) {
        this.#take(piece.byteOffset - this.#chunk.byteOffset + at);
        this.#endMember();
        this.#start = file.nextChunk();
        if (this.#start !== file.entry) this.#toc.add(this.#start);
      }
      at += file.update(piece.subarray(at));
    }
  }

  #endFile(): void {
    this.#file?.end();
    this.#file = undefined;
  }

  /** Puts the bytes of the chunk up to `end` into the member. */
  #take(end: number): void {
    while (this.#taken < end) {
      const length = Math.min(end - this.#taken, MEMBER_BYTES - this.#partsBytes);
      this.#parts.push(this.#chunk.subarray(this.#taken, this.#taken + length));
      this.#partsBytes += length;
      this.#taken += length;
      if (this.#partsBytes === MEMBER_BYTES) this.#endMember();
    }
  }

  #endMember(): void {
    const bytes = this.#partsBytes;
    if (bytes === 0) return;
    const packed = pack(this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts), this.#level);
    this.#inWork.push({ packed, bytes, entry: this.#start });
    this.#workBytes += bytes;
    this.#parts = [];
    this.#partsBytes = 0;
    this.#start = undefined;
  }

  async #writeOldest(): Promise<void> {
    const { packed, bytes, entry } = this.#inWork.shift()!;
    const member = await packed;
    if (entry) entry.offset = this.#written;
    this.#write(member);
    this.#workBytes -= bytes;
    this.#toc.settle();
  }
}

/** Digests of a file and of each of its pieces. */
class FileDigests {
  readonly entry: TocEntry;
  readonly #name: string;
  readonly #size: number;
  readonly #whole: Hash | undefined;
  #part = createHash('sha256');
  #chunk: TocEntry;
  #done = 0;

  constructor(name: string, entry: TocEntry, size: number) {
    this.#name = name;
    this.entry = entry;
    this.#chunk = entry;
    this.#size = size;
    // A file of one piece has the digest of that.
    this.#whole = size > CHUNK_BYTES ? createHash('sha256') : undefined;
  }

  /** Whether the next byte begins a piece. */
  get isAtChunk(): boolean {
    return this.#done % CHUNK_BYTES === 0;
  }

  /** Begins a piece; its entry in the table. */
  nextChunk(): TocEntry {
    if (this.#done > 0) {
      this.#endChunk();
      this.#part = createHash('sha256');
      this.#chunk = { name: this.#name, type: 'chunk', chunkOffset: this.#done };
    }
    if (this.#size - this.#done >= CHUNK_BYTES) this.#chunk.chunkSize = CHUNK_BYTES;
    this.#chunk.hasData = true;
    return this.#chunk;
  }

  /** Takes bytes up to the end of the piece; how many. */
  update(bytes: Buffer): number {
    const piece = bytes.subarray(0, CHUNK_BYTES - (this.#done % CHUNK_BYTES));
    this.#part.update(piece);
    this.#whole?.update(piece);
    this.#done += piece.length;
    return piece.length;
  }

  end(): void {
    const last = this.#endChunk();
    this.entry.digest = this.#whole ? `sha256:${this.#whole.digest('hex')}` : last;
  }

  #endChunk(): string {
    const digest = `sha256:${this.#part.digest('hex')}`;
    if (this.#size > 0) this.#chunk.chunkDigest = digest;
    return digest;
  }
}

/** As one gzip member. */
function pack(data: Buffer, level: number): Buffer | Promise<Buffer> {
  const options = { level, chunkSize: Math.min(data.length + OVERHEAD_BYTES, OUTPUT_BYTES) };
  if (data.length <= MAX_OWN_BYTES) return gzipSync(data, options);
  const packed = new Promise<Buffer>((resolve, reject) => {
    gzip(data, options, (error, bytes) => (error ? reject(error) : resolve(bytes)));
  });
  // Handled where it is awaited.
  packed.catch(() => {});
  return packed;
}

/** The path that an archive's name leads to, from the root. */
function cleanName(name: string): string {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}
