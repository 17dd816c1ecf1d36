import type { MessageType, MethodDefinition } from './types.ts';
import { walkFields } from './well-formed.ts';

/** A message whose only field is `bytes data = 1`: what streams of bytes are made of in BuildKit's services. */
export interface BytesMessage {
  readonly data: Uint8Array;
  /** Of a message that is sent: what follows `data` in the same field. */
  readonly more?: readonly Uint8Array[];
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
  encode: (message) => ({ finish: () => Buffer.concat(encodeParts(message, 0)) }),
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

function encodeParts(
  { data, more = [] }: BytesMessage,
  headroom: number,
): readonly [Uint8Array, ...Uint8Array[]] {
  const size = more.reduce((sum, part) => sum + part.byteLength, data.byteLength);
  if (size === 0) return [Buffer.allocUnsafe(headroom)];
  const small = data.byteLength < COPY_BELOW_BYTES;
  const head = Buffer.allocUnsafe(headroom + 1 + MAX_LENGTH_BYTES + (small ? data.byteLength : 0));
  let at = headroom;
  head[at++] = TAG;
  let rest = size;
  for (; rest >= 128; rest >>>= 7) head[at++] = (rest & 127) | 128;
  head[at++] = rest;
  if (!small) return [head.subarray(0, at), data, ...more];
  head.set(data, at);
  return [head.subarray(0, at + data.byteLength), ...more];
}

function decode(bytes: Uint8Array): BytesMessage {
  let data: Uint8Array = EMPTY;
  walkFields(bytes, (tag, start, end) => {
    if (tag === TAG) data = bytes.subarray(start, end);
  });
  return { data };
}
