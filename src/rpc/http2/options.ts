import type { Http2Stream } from './stream.ts';

export interface ConnectionOptions {
  /** Unread bytes of one stream that the peer may have under way. */
  readonly streamWindowBytes: number;
  /** Bytes of all streams that may be on the wire: given back as they arrive. */
  readonly connectionWindowBytes: number;
  readonly maxFrameBytes: number;
  readonly maxHeaderBytes: number;
  readonly maxHeaderPairs: number;
  /** Streams of the peer that may be open at once. */
  readonly maxStreams: number;
  /** What a peer that reads nothing may make us queue in answers to it. */
  readonly maxUnsentAnswerBytes: number;
  /** On the server's side: a request has come. `events` of the stream must be set before this returns. */
  readonly onStream?: (stream: Http2Stream, headers: readonly string[]) => void;
}
