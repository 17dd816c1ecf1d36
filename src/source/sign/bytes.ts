import { BuildError } from '../../base/errors.ts';

/** Reads fields of foreign bytes one after the other. @throws BuildError where there are too few */
export class ByteReader {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = Buffer.from(data.buffer, data.byteOffset, data.length);
  }

  get left(): number {
    return this.#data.length - this.#at;
  }

  get at(): number {
    return this.#at;
  }

  take(length: number): Buffer {
    if (length > this.left) throw new BuildError('unexpected end of data');
    this.#at += length;
    return this.#data.subarray(this.#at - length, this.#at);
  }

  rest(): Buffer {
    return this.take(this.left);
  }

  u8(): number {
    return this.take(1).readUInt8();
  }

  u16(): number {
    return this.take(2).readUInt16BE();
  }

  u32(): number {
    return this.take(4).readUInt32BE();
  }

  /** A string of ssh: its length, then its bytes (RFC 4251). */
  string(): Buffer {
    return this.take(this.u32());
  }

  /** A number of OpenPGP: its length in bits, then its bytes (RFC 4880 section 3.2). */
  mpi(): Buffer {
    return this.take((this.u16() + 7) >> 3);
  }
}

/** A big number as exactly `length` bytes. @throws BuildError when it is larger */
export function padded(number: Uint8Array, length: number): Buffer {
  const start = number.findIndex((byte) => byte !== 0);
  const bytes = start < 0 ? new Uint8Array() : number.subarray(start);
  if (bytes.length > length) throw new BuildError('number out of range');
  return Buffer.concat([Buffer.alloc(length - bytes.length), bytes]);
}

/** Bytes of an armored block, from its first line to its last; headers and the checksum are left out. */
export function unarmor(text: string, from = 0): { type: string; data: Buffer; end: number } | undefined {
  const begin = /^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?$/gm;
  begin.lastIndex = from;
  const start = begin.exec(text);
  if (!start) return undefined;
  const type = start[1] ?? '';
  const last = `-----END ${type}-----`;
  const end = text.indexOf(last, begin.lastIndex);
  if (end < 0) throw new BuildError('unexpected EOF');
  const lines = text
    .slice(begin.lastIndex, end)
    .split('\n')
    .map((line) => line.trim());
  // Headers end with an empty line; a checksum begins with an equals sign.
  const blank = lines.findIndex((line, i) => i > 0 && line === '');
  const hasHeaders = lines.slice(0, blank < 0 ? 0 : blank).some((line) => line.includes(': '));
  const body = (hasHeaders ? lines.slice(blank) : lines).filter(
    (line) => line !== '' && !line.startsWith('='),
  );
  const joined = body.join('');
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(joined)) throw new BuildError('illegal base64 data');
  return { type, data: Buffer.from(joined, 'base64'), end: end + last.length };
}
