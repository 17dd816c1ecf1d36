import type { ConnectionOptions } from './http2/options.ts';

/** Largest message accepted or sent, both ways. */
export const MAX_MESSAGE_BYTES = 16 << 20;
/** Unread bytes of one call that the other side may have under way. */
export const STREAM_WINDOW_BYTES = 4 << 20;
/** Bytes of all calls that may be on the wire of one connection. */
export const CONNECTION_WINDOW_BYTES = 32 << 20;
/** Bytes that `send` queues before it makes the caller wait. */
export const SEND_QUEUE_BYTES = 1 << 20;
/** Metadata pairs accepted in one block; a build with many exclude patterns sends thousands. */
const MAX_HEADER_PAIRS = 1 << 17;
const MAX_HEADER_BYTES = 16 << 20;
/** Largest frame we accept: long enough to cost little, short enough that calls share a connection fairly. */
const MAX_FRAME_BYTES = 256 << 10;
/** Calls of one peer that may run at once. */
const MAX_STREAMS = 10_000;
/** Answers to settings and pings that a peer who reads nothing may make us keep. */
const MAX_UNSENT_ANSWER_BYTES = 16 << 20;

export const CONNECTION_OPTIONS: ConnectionOptions = {
  streamWindowBytes: STREAM_WINDOW_BYTES,
  connectionWindowBytes: CONNECTION_WINDOW_BYTES,
  maxFrameBytes: MAX_FRAME_BYTES,
  maxHeaderBytes: MAX_HEADER_BYTES,
  maxHeaderPairs: MAX_HEADER_PAIRS,
  maxStreams: MAX_STREAMS,
  maxUnsentAnswerBytes: MAX_UNSENT_ANSWER_BYTES,
};
