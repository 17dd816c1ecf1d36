import { BuildError, Code } from '../base/errors.ts';
import { MAX_MESSAGE_BYTES } from './transport.ts';
import type { MessageType } from './types.ts';

/** gRPC frame: one byte of flags (0, or 1 = compressed), four of length (big endian), the message. */
const PREFIX_BYTES = 5;
/** A message below this size is copied out of a network buffer that is much larger than it. */
const COPY_BELOW_BYTES = 4096;

/** A message as the pieces of its frame. */
export function encodeFrame<T>(type: MessageType<T>, message: T): readonly Buffer[] {
  const parts = (type.encodeParts?.(message, PREFIX_BYTES) ?? [prefixed(type.encode(message).finish())]).map(
    asBuffer,
  );
  const size = parts.reduce((sum, part) => sum + part.byteLength, -PREFIX_BYTES);
  if (size > MAX_MESSAGE_BYTES)
    throw new BuildError(`trying to send message larger than max (${size} vs. ${MAX_MESSAGE_BYTES})`, {
      code: Code.resourceExhausted,
    });
  const head = parts[0]!;
  head[0] = 0;
  head.writeUInt32BE(size, 1);
  return parts;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function prefixed(payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + payload.byteLength);
  frame.set(payload, PREFIX_BYTES);
  return frame;
}

/** Bytes in order, taken when they are wanted. */
export interface ByteSource {
  /** What is there, or undefined: nothing yet, or nothing any more when `ended`. */
  read(): Buffer | undefined;
  readonly ended: boolean;
  /** What has not been read and what still comes is thrown away. */
  discard(): void;
}

/**
 * Takes messages off a byte stream, one at a time and only when asked, so that unread data stays
 * under the transport's flow control.
 */
export class FrameReader {
  readonly #source: ByteSource;
  #rest: Buffer | undefined;
  #failure: BuildError | undefined;
  #wake: (() => void) | undefined;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** To be called when the source has more to read or has ended. */
  wake(): void {
    this.#wake?.();
  }

  /** Throws away what has not been read and what still comes. */
  discard(): void {
    this.#source.discard();
  }

  /** Makes every waiting and later read fail. */
  fail(error: BuildError): void {
    this.#failure ??= error;
    this.#wake?.();
    this.discard();
  }

  /** Next message's bytes, possibly a view into a larger buffer; undefined at the end of the stream. */
  async next(): Promise<Uint8Array | undefined> {
    const head = await this.#header();
    if (!head) return undefined;
    if (head[0] !== 0)
      throw new BuildError('grpc: compressed messages are not supported', { code: Code.unimplemented });
    const size = head.readUInt32BE(1);
    if (size > MAX_MESSAGE_BYTES)
      throw new BuildError(`grpc: received message larger than max (${size} vs. ${MAX_MESSAGE_BYTES})`, {
        code: Code.resourceExhausted,
      });
    return size === 0 ? new Uint8Array(0) : await this.#payload(size);
  }

  async #header(): Promise<Buffer | undefined> {
    let head = this.#rest;
    this.#rest = undefined;
    while (!head || head.length < PREFIX_BYTES) {
      const chunk = await this.#chunk();
      if (!chunk) {
        if (head && head.length > 0) throw truncated();
        return undefined;
      }
      head = head ? Buffer.concat([head, chunk]) : chunk;
    }
    if (head.length > PREFIX_BYTES) this.#rest = head.subarray(PREFIX_BYTES);
    return head;
  }

  async #payload(size: number): Promise<Uint8Array> {
    const first = this.#rest ?? (await this.#chunk());
    if (!first) throw truncated();
    if (first.length >= size) {
      this.#rest = first.length > size ? first.subarray(size) : undefined;
      const view = first.subarray(0, size);
      return size < COPY_BELOW_BYTES && first.buffer.byteLength > 4 * size ? Buffer.from(view) : view;
    }
    const whole = Buffer.allocUnsafeSlow(size);
    let at = first.copy(whole);
    this.#rest = undefined;
    while (at < size) {
      const chunk = await this.#chunk();
      if (!chunk) throw truncated();
      const used = chunk.copy(whole, at);
      at += used;
      if (used < chunk.length) this.#rest = chunk.subarray(used);
    }
    return whole;
  }

  async #chunk(): Promise<Buffer | undefined> {
    for (;;) {
      if (this.#failure) throw this.#failure;
      const chunk = this.#source.read();
      if (chunk) return chunk;
      if (this.#source.ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}

function truncated(): BuildError {
  return new BuildError('unexpected EOF', { code: Code.internal });
}
