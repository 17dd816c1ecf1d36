/** The types of RFC 4251 section 5: big-endian lengths, strings, mpints. */
export class SshReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  uint32(): number {
    if (this.#at + 4 > this.#bytes.length) throw new RangeError('truncated ssh message');
    const value = this.#bytes.readUInt32BE(this.#at);
    this.#at += 4;
    return value;
  }

  byte(): number {
    const value = this.#bytes[this.#at++];
    if (value === undefined) throw new RangeError('truncated ssh message');
    return value;
  }

  string(): Buffer {
    const size = this.uint32();
    if (this.#at + size > this.#bytes.length) throw new RangeError('truncated ssh message');
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  text(): string {
    return this.string().toString('utf8');
  }

  /** A positive mpint without its sign byte. */
  number(): Buffer {
    const value = this.string();
    return value[0] === 0 ? value.subarray(1) : value;
  }
}

export function sshString(value: Uint8Array | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  const out = Buffer.alloc(4 + bytes.length);
  out.writeUInt32BE(bytes.length);
  out.set(bytes, 4);
  return out;
}

export function sshUint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

/** mpint of an unsigned big-endian number. */
export function sshNumber(value: Uint8Array): Buffer {
  let start = 0;
  while (start < value.length - 1 && value[start] === 0) start++;
  const digits = value.subarray(start);
  const signed = ((digits[0] ?? 0) & 0x80) !== 0;
  return sshString(signed ? Buffer.concat([Buffer.of(0), digits]) : digits);
}
