import { ErrorCode, ProtocolError } from './frames.ts';
import { huffmanDecode } from './huffman.ts';

/** Header compression (RFC 7541). Lists are flat: name, value, name, value… in the order of the wire. */

/** Static table (appendix A), from index 1 on: `name` or `name=value`. */
const STATIC =
  `:authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200
:status=204 :status=206 :status=304 :status=400 :status=404 :status=500 accept-charset accept-encoding=gzip,_deflate
accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control
content-disposition content-encoding content-language content-length content-location content-range content-type cookie
date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified
link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie
strict-transport-security transfer-encoding user-agent vary via www-authenticate`
    .split(/\s+/)
    .map((entry): readonly [string, string] => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1).replace('_', ' ')];
    });
/** Size that the protocol adds to the length of every header. */
const ENTRY_BYTES = 32;
/** Dynamic table that we let the peer use: the protocol's default, of which no setting need be sent. */
const TABLE_BYTES = 4096;
const MAX_INTEGER = 1 << 28;

const compressionError = (text: string): ProtocolError => new ProtocolError(text, ErrorCode.compressionError);

export interface HeaderLimits {
  /** Bytes of all names and values, with 32 for each pair. */
  readonly maxBytes: number;
  readonly maxPairs: number;
}

/** Reads header blocks of one connection, in order. */
export class HeaderDecoder {
  readonly #limits: HeaderLimits;
  readonly #table: (readonly [string, string])[] = [];
  #tableBytes = 0;
  #tableLimit = TABLE_BYTES;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(limits: HeaderLimits) {
    this.#limits = limits;
  }

  /** @throws ProtocolError for what is no header block, and for one above the limits */
  decode(block: Buffer): string[] {
    this.#block = block;
    this.#at = 0;
    const list: string[] = [];
    let bytes = 0;
    while (this.#at < block.length) {
      const pair = this.#field(list.length === 0);
      if (!pair) continue;
      bytes += pair[0].length + pair[1].length + ENTRY_BYTES;
      if (bytes > this.#limits.maxBytes || list.length >= 2 * this.#limits.maxPairs)
        throw new ProtocolError('a header block above the limit', ErrorCode.enhanceYourCalm);
      list.push(pair[0], pair[1]);
    }
    return list;
  }

  /** Next pair; undefined for a change of the table's size. */
  #field(first: boolean): readonly [string, string] | undefined {
    const byte = this.#block[this.#at] as number;
    if (byte & 0x80) return this.#entry(this.#integer(7));
    if (byte & 0x40) {
      const pair = this.#literal(6);
      this.#remember(pair);
      return pair;
    }
    if ((byte & 0xe0) !== 0x20) return this.#literal(4);
    const limit = this.#integer(5);
    if (!first || limit > TABLE_BYTES)
      throw compressionError('a header table of a size that was not offered');
    this.#tableLimit = limit;
    this.#evict(0);
    return undefined;
  }

  #literal(prefix: number): readonly [string, string] {
    const index = this.#integer(prefix);
    const name = index === 0 ? this.#string() : this.#entry(index)[0];
    return [name, this.#string()];
  }

  #entry(index: number): readonly [string, string] {
    const pair =
      index <= STATIC.length ? STATIC[index - 1] : this.#table[this.#table.length - (index - STATIC.length)];
    if (!pair) throw compressionError(`no header with index ${index}`);
    return pair;
  }

  #remember(pair: readonly [string, string]): void {
    const size = pair[0].length + pair[1].length + ENTRY_BYTES;
    this.#evict(size);
    if (size > this.#tableLimit) return;
    this.#table.push(pair);
    this.#tableBytes += size;
  }

  /** Makes room for `size` more bytes. */
  #evict(size: number): void {
    let gone = 0;
    while (this.#tableBytes > 0 && this.#tableBytes + size > this.#tableLimit) {
      const [name, value] = this.#table[gone++] as readonly [string, string];
      this.#tableBytes -= name.length + value.length + ENTRY_BYTES;
    }
    this.#table.splice(0, gone);
  }

  #byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw compressionError('a header block that ends too early');
    return byte;
  }

  #integer(prefix: number): number {
    const max = (1 << prefix) - 1;
    let value = this.#byte() & max;
    if (value < max) return value;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (value > MAX_INTEGER || shift > 28)
        throw compressionError('a number in a header block is too large');
      if (!(byte & 0x80)) return value;
    }
  }

  #string(): string {
    const coded = ((this.#block[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(7);
    const end = this.#at + length;
    if (end > this.#block.length) throw compressionError('a header block that ends too early');
    const bytes = this.#block.subarray(this.#at, end);
    this.#at = end;
    return (coded ? huffmanDecode(bytes) : bytes).toString('latin1');
  }
}

const NAMES = new Map<string, number>();
const PAIRS = new Map<string, number>();
for (const [i, [name, value]] of STATIC.entries()) {
  if (!NAMES.has(name)) NAMES.set(name, i + 1);
  if (value !== '') PAIRS.set(`${name}\n${value}`, i + 1);
}

/**
 * Writes header blocks. Nothing is put into the peer's table: both ends share a machine mostly, and a list of
 * metadata that is sent once is not worth a place in it.
 */
export class HeaderEncoder {
  #begun = false;

  /** `list` as in HeaderDecoder; names in lower case, values of one byte for each character. */
  encode(list: readonly string[]): Buffer {
    let room = 1;
    for (const text of list) room += text.length + 6;
    const out = Buffer.allocUnsafe(room);
    let at = 0;
    if (!this.#begun) {
      this.#begun = true;
      out[at++] = 0x20; // the table's size is nothing from now on, so no setting of the peer changes anything
    }
    for (let i = 0; i + 1 < list.length; i += 2) {
      const name = list[i] as string;
      const value = list[i + 1] as string;
      const known = PAIRS.get(`${name}\n${value}`);
      if (known !== undefined) {
        at = writeInteger(out, at, 0x80, 7, known);
        continue;
      }
      const index = NAMES.get(name) ?? 0;
      at = writeInteger(out, at, 0, 4, index);
      if (index === 0) at = writeString(out, at, name);
      at = writeString(out, at, value);
    }
    return out.subarray(0, at);
  }
}

function writeInteger(out: Buffer, at: number, flags: number, prefix: number, value: number): number {
  const max = (1 << prefix) - 1;
  if (value < max) {
    out[at] = flags | value;
    return at + 1;
  }
  out[at++] = flags | max;
  let rest = value - max;
  while (rest >= 0x80) {
    out[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[at++] = rest;
  return at;
}

function writeString(out: Buffer, at: number, text: string): number {
  const next = writeInteger(out, at, 0, 7, text.length);
  out.write(text, next, 'latin1');
  return next + text.length;
}
