import { BuildError, Code } from '../../base/errors.ts';
import { StatusResponse } from '../../pb/control.ts';

/** Media type of a build's log: messages of the progress stream, each behind its length (FEATURES B37). */
export const LOG_MEDIA_TYPE = 'application/vnd.buildkit.status.v0';
const HEADER_BYTES = 4;
/** A longer message is damage; none that is written comes near it. */
const MAX_FRAME_BYTES = 256 << 20;

/** The messages as they stand in the file: little-endian length, then the bytes. */
export function encodeFrames(responses: Iterable<StatusResponse>): Buffer {
  const parts: Uint8Array[] = [];
  for (const response of responses) {
    const bytes = StatusResponse.encode(response).finish();
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    header.writeUInt32LE(bytes.length);
    parts.push(header, bytes);
  }
  return Buffer.concat(parts);
}

export interface Frame {
  readonly response: StatusResponse;
  /** Of the frame with its header. */
  readonly bytes: Buffer;
}

/** Reads messages back, one at a time. @throws dataLoss where the bytes end within one, or are no message */
export async function* decodeFrames(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  let parts: Uint8Array[] = [];
  let have = 0;
  let need = HEADER_BYTES;
  for await (const chunk of chunks) {
    parts.push(chunk);
    have += chunk.length;
    if (have < need) continue;
    const data = parts.length === 1 ? asBuffer(chunk) : Buffer.concat(parts);
    let at = 0;
    for (;;) {
      need = HEADER_BYTES;
      if (data.length - at < need) break;
      need += data.readUInt32LE(at);
      if (need > MAX_FRAME_BYTES) throw damaged(`a message of ${need} bytes`);
      if (data.length - at < need) break;
      const bytes = data.subarray(at, at + need);
      yield { response: decode(bytes.subarray(HEADER_BYTES)), bytes };
      at += need;
    }
    parts = at === data.length ? [] : [data.subarray(at)];
    have = data.length - at;
  }
  if (have > 0) throw damaged('it ends within a message');
}

function asBuffer(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

function decode(bytes: Uint8Array): StatusResponse {
  try {
    return StatusResponse.decode(bytes);
  } catch (error) {
    throw damaged(error instanceof Error ? error.message : String(error));
  }
}

function damaged(what: string): BuildError {
  return new BuildError(`the log of the build is damaged: ${what}`, { code: Code.dataLoss });
}
