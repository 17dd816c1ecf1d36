/** Bytes of a stream one after the other, for decoders. */
export class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(input: AsyncIterable<Uint8Array>) {
    this.#chunks = input[Symbol.asyncIterator]();
  }

  /** Bytes that can be had without waiting. */
  get available(): number {
    return this.#chunk.length - this.#at;
  }

  /** Waits until `count` bytes are at hand; false when the input ends before. */
  async need(count: number): Promise<boolean> {
    while (this.available < count) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      this.#chunk = Buffer.concat([this.#chunk.subarray(this.#at), next.value]);
      this.#at = 0;
    }
    return true;
  }

  /** The next byte; `need` must have said that it is there. */
  byte(): number {
    return this.#chunk[this.#at++]!;
  }

  /** The next `count` bytes, valid until the next `need`. */
  take(count: number): Uint8Array {
    const bytes = this.#chunk.subarray(this.#at, this.#at + count);
    this.#at += count;
    return bytes;
  }

  /** The next `count` bytes, which stay. */
  peek(count: number): Uint8Array {
    return this.#chunk.subarray(this.#at, this.#at + count);
  }

  /** Closes the stream. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
