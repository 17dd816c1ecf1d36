import type { MessageType, MethodDefinition } from './types.ts';

/** A message whose only field is `bytes data = 1`: what streams of bytes are made of in BuildKit's services. */
export interface BytesMessage {
  readonly data: Uint8Array;
}

const TAG = (1 << 3) | 2;
const MAX_LENGTH_BYTES = 5;
/** Data below this size is copied behind its head: one piece instead of two. */
const COPY_BELOW_BYTES = 4096;
const EMPTY = new Uint8Array(0);

/**
 * BytesMessage by hand: neither side copies the data. What is decoded is a view of the message's bytes, what is
 * encoded must not change any more. A test holds it against the generated code.
 */
export const bytesCodec: MessageType<BytesMessage> = {
  encode: ({ data }) => ({ finish: () => Buffer.concat(encodeParts({ data }, 0)) }),
  encodeParts,
  decode,
  strict: true,
};

/** A method that carries bytes both ways, with this codec. */
export function bytesMethod<M extends MethodDefinition<BytesMessage, BytesMessage>>(
  method: M,
): Omit<M, 'requestType' | 'responseType'> & MethodDefinition<BytesMessage, BytesMessage> {
  return { ...method, requestType: bytesCodec, responseType: bytesCodec };
}

function encodeParts({ data }: BytesMessage, headroom: number): readonly [Uint8Array, ...Uint8Array[]] {
  if (data.byteLength === 0) return [Buffer.allocUnsafe(headroom)];
  const small = data.byteLength < COPY_BELOW_BYTES;
  const head = Buffer.allocUnsafe(headroom + 1 + MAX_LENGTH_BYTES + (small ? data.byteLength : 0));
  let at = headroom;
  head[at++] = TAG;
  let rest = data.byteLength;
  for (; rest >= 128; rest >>>= 7) head[at++] = (rest & 127) | 128;
  head[at++] = rest;
  if (!small) return [head.subarray(0, at), data];
  head.set(data, at);
  return [head.subarray(0, at + data.byteLength)];
}

function decode(bytes: Uint8Array): BytesMessage {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || scale >= 2 ** 70) throw new RangeError('truncated or oversized varint');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const skip = (length: number): number => {
    const start = at;
    at += length;
    if (at > bytes.byteLength) throw new RangeError('truncated field');
    return start;
  };
  let data: Uint8Array = EMPTY;
  while (at < bytes.byteLength) {
    const tag = varint();
    const wireType = tag % 8;
    if (tag === TAG) {
      const length = varint();
      const start = skip(length);
      data = bytes.subarray(start, at);
    } else if (wireType === 0) varint();
    else if (wireType === 2) skip(varint());
    else if (wireType === 1 || wireType === 5) skip(wireType === 1 ? 8 : 4);
    else throw new RangeError(`unsupported wire type ${wireType}`);
  }
  return { data };
}
