/** Frames of HTTP/2 (RFC 9113, section 4 and 6). */

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
export const FRAME_HEADER_BYTES = 9;
/** Largest payload that every peer takes. */
export const DEFAULT_FRAME_BYTES = 1 << 14;
export const DEFAULT_WINDOW_BYTES = 65_535;
export const MAX_WINDOW_BYTES = 0x7fffffff;

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const Flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

export const Setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

export const ErrorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
} as const;

/** The peer broke the protocol: the connection ends with this code. */
export class ProtocolError extends Error {
  readonly code: number;

  constructor(message: string, code: number = ErrorCode.protocolError) {
    super(message);
    this.code = code;
  }
}

export interface FrameHead {
  readonly length: number;
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const buffer = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.byteLength);
  writeHead(buffer, payload.byteLength, type, flags, stream);
  buffer.set(payload, FRAME_HEADER_BYTES);
  return buffer;
}

export function writeHead(
  buffer: Buffer,
  length: number,
  type: number,
  flags: number,
  stream: number,
): Buffer {
  buffer.writeUIntBE(length, 0, 3);
  buffer[3] = type;
  buffer[4] = flags;
  buffer.writeUInt32BE(stream, 5);
  return buffer;
}

/** A payload of 32-bit numbers. */
export function words(...values: readonly number[]): Buffer {
  const buffer = Buffer.allocUnsafe(4 * values.length);
  for (const [i, value] of values.entries()) buffer.writeUInt32BE(value, 4 * i);
  return buffer;
}

export function settingsPayload(settings: ReadonlyMap<number, number>): Buffer {
  const buffer = Buffer.allocUnsafe(6 * settings.size);
  let at = 0;
  for (const [id, value] of settings) {
    buffer.writeUInt16BE(id, at);
    buffer.writeUInt32BE(value, at + 2);
    at += 6;
  }
  return buffer;
}

/** A header block in frames that the peer takes: HEADERS and, when it is long, CONTINUATION. */
export function headerFrames(block: Buffer, stream: number, endStream: boolean, maxBytes: number): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += maxBytes) {
    const last = at + maxBytes >= block.length ? Flag.endHeaders : 0;
    const type = at === 0 ? FrameType.headers : FrameType.continuation;
    const end = at === 0 && endStream ? Flag.endStream : 0;
    frames.push(frame(type, last | end, stream, block.subarray(at, at + maxBytes)));
  }
  return frames;
}

/** Payload of a DATA or HEADERS frame without its padding, and for HEADERS without its priority. */
export function unpadded(payload: Buffer, { flags, type }: FrameHead): Buffer {
  let start = 0;
  let end = payload.length;
  if (flags & Flag.padded) {
    start = 1;
    end -= payload[0] ?? payload.length;
  }
  if (type === FrameType.headers && flags & Flag.priority) start += 5;
  if (start > end) throw new ProtocolError('padding is longer than its frame');
  return payload.subarray(start, end);
}

export function resetFrame(id: number, code: number): Buffer {
  return frame(FrameType.rstStream, 0, id, words(code));
}

/** @throws ProtocolError for a frame that must have another length */
export function expectLength(head: FrameHead, length: number): void {
  if (head.length !== length)
    throw new ProtocolError(
      `a frame of ${head.length} bytes where ${length} were due`,
      ErrorCode.frameSizeError,
    );
}
