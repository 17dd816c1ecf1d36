import { ErrorCode, FRAME_HEADER_BYTES, Flag, type FrameHead, FrameType, ProtocolError } from './frames.ts';

export interface FrameSink {
  /** A DATA frame begins; its parts follow as they arrive. */
  dataFrame(head: FrameHead): void;
  /** Bytes of the DATA frame that began last: a view into what was pushed. */
  dataPart(part: Buffer): void;
  /** All parts of the DATA frame that began last have come. */
  dataEnd(head: FrameHead): void;
  /** Any other frame, and a DATA frame with padding, whole. */
  frame(head: FrameHead, payload: Buffer): void;
}

/** Cuts a byte stream into frames; data is passed on without a copy and without waiting for the frame's end. */
export class FrameParser {
  readonly #sink: FrameSink;
  readonly #maxFrameBytes: number;
  readonly #headBytes = Buffer.alloc(FRAME_HEADER_BYTES);
  #headFill = 0;
  #head: FrameHead | undefined;
  #left = 0;
  #parts: Buffer[] = [];

  constructor(sink: FrameSink, maxFrameBytes: number) {
    this.#sink = sink;
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** @throws ProtocolError for a frame that is too long, and what the sink throws */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) at += this.#head ? this.#body(chunk, at, this.#head) : this.#begin(chunk, at);
  }

  #begin(chunk: Buffer, at: number): number {
    const size = Math.min(FRAME_HEADER_BYTES - this.#headFill, chunk.length - at);
    if (size === FRAME_HEADER_BYTES) {
      this.#start(chunk, at);
      return size;
    }
    chunk.copy(this.#headBytes, this.#headFill, at, at + size);
    this.#headFill += size;
    if (this.#headFill === FRAME_HEADER_BYTES) {
      this.#headFill = 0;
      this.#start(this.#headBytes, 0);
    }
    return size;
  }

  #start(buffer: Buffer, at: number): void {
    const head: FrameHead = {
      length: buffer.readUIntBE(at, 3),
      type: buffer[at + 3] as number,
      flags: buffer[at + 4] as number,
      stream: buffer.readUInt32BE(at + 5) & 0x7fffffff,
    };
    if (head.length > this.#maxFrameBytes)
      throw new ProtocolError(`a frame of ${head.length} bytes`, ErrorCode.frameSizeError);
    this.#head = head;
    this.#left = head.length;
    if (isPlainData(head)) this.#sink.dataFrame(head);
    if (head.length === 0) this.#finish(head, Buffer.alloc(0));
  }

  #body(chunk: Buffer, at: number, head: FrameHead): number {
    const size = Math.min(this.#left, chunk.length - at);
    const part = chunk.subarray(at, at + size);
    this.#left -= size;
    if (isPlainData(head)) this.#sink.dataPart(part);
    else if (this.#left > 0 || this.#parts.length > 0) this.#parts.push(part);
    if (this.#left === 0) {
      const payload = this.#parts.length > 0 ? Buffer.concat(this.#parts) : part;
      this.#parts = [];
      this.#finish(head, payload);
    }
    return size;
  }

  #finish(head: FrameHead, payload: Buffer): void {
    this.#head = undefined;
    if (isPlainData(head)) this.#sink.dataEnd(head);
    else this.#sink.frame(head, payload);
  }
}

function isPlainData(head: FrameHead): boolean {
  return head.type === FrameType.data && !(head.flags & Flag.padded);
}
