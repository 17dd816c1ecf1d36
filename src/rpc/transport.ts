import type { ClientSessionOptions, ServerSessionOptions } from 'node:http2';

type Http2 = typeof import('node:http2');

/** node:http2, loaded when the first connection is made: it costs a program's start 13 ms. */
export function http2(): Http2 {
  return process.getBuiltinModule('node:http2');
}

/** Largest message accepted or sent, both ways. */
export const MAX_MESSAGE_BYTES = 16 << 20;
/** Unread bytes of one call that the other side may have under way. */
export const STREAM_WINDOW_BYTES = 4 << 20;
/** Same, of all calls of one connection. */
export const CONNECTION_WINDOW_BYTES = 32 << 20;
/** Bytes that `send` queues before it makes the caller wait. */
export const SEND_QUEUE_BYTES = 1 << 20;
/** Metadata pairs accepted in one block; a build with many exclude patterns sends thousands. */
const MAX_HEADER_PAIRS = 1 << 17;
const MAX_HEADER_BYTES = 16 << 20;
/** Node's own cap on memory of a connection, in MB; the windows above bound it long before. */
const MAX_SESSION_MEMORY_MB = 1024;
/** Largest frame we accept: a header block joined by `joinHeaderFrames` is one frame. */
export const MAX_FRAME_BYTES = (1 << 24) - 1;

export function sessionOptions(): ServerSessionOptions & ClientSessionOptions {
  return {
    maxHeaderListPairs: MAX_HEADER_PAIRS,
    maxSendHeaderBlockLength: MAX_HEADER_BYTES,
    maxSessionMemory: MAX_SESSION_MEMORY_MB,
    maxOutstandingPings: 64,
    settings: {
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxFrameSize: MAX_FRAME_BYTES,
      maxHeaderListSize: MAX_HEADER_BYTES,
      enablePush: false,
    },
  };
}
