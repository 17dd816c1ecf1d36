import type { Duplex } from 'node:stream';
import {
  DEFAULT_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  headerFrames,
  writeHead,
} from './frames.ts';
import { HeaderEncoder } from './hpack.ts';
import { joinSmall } from '../pieces.ts';
import type { Http2Stream } from './stream.ts';

/** Data of one frame, also when the peer would take more: others want their turn. */
const MAX_DATA_BYTES = 256 << 10;

/** What goes out on a connection: frames at once, data of the streams in turn and as the peer's windows allow. */
export class Outbound {
  /** Largest frame that the peer takes. */
  frameBytes = DEFAULT_FRAME_BYTES;
  /** Bytes of data that the peer takes on the connection. */
  window = DEFAULT_WINDOW_BYTES;
  /** Answers that the transport has not taken yet. */
  unsentAnswerBytes = 0;
  readonly #transport: Duplex;
  readonly #encoder = new HeaderEncoder();
  readonly #sending = new Set<Http2Stream>();
  #corked = false;
  #pumping = false;
  #scheduled = false;

  constructor(transport: Duplex) {
    this.#transport = transport;
    transport.on('drain', () => this.pump());
  }

  /** Sends what a frame of the peer asked for. */
  answer(bytes: Buffer): void {
    this.unsentAnswerBytes += bytes.length;
    this.write(bytes, () => {
      this.unsentAnswerBytes -= bytes.length;
    });
  }

  /** Frames of one turn of the event loop leave in one write. */
  write(bytes: Uint8Array, done?: () => void): void {
    const transport = this.#transport;
    if (transport.destroyed || transport.writableEnded) return;
    if (!this.#corked) {
      this.#corked = true;
      transport.cork();
      process.nextTick(() => {
        this.#corked = false;
        transport.uncork();
      });
    }
    transport.write(bytes, done);
  }

  headers(stream: number, list: readonly string[], end: boolean): void {
    for (const bytes of headerFrames(this.#encoder.encode(list), stream, end, this.frameBytes))
      this.write(bytes);
  }

  /** The stream has something to send: after the callbacks under way, so that small messages share a frame. */
  want(stream: Http2Stream): void {
    this.#sending.add(stream);
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => {
      this.#scheduled = false;
      this.pump();
    });
  }

  forget(stream: Http2Stream): void {
    this.#sending.delete(stream);
  }

  /** Sends what can be sent: a frame of each stream in turn. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#round()) {
        // until everything is sent or waits
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** @returns false when nothing more can be sent now */
  #round(): boolean {
    let sent = false;
    for (const stream of [...this.#sending]) {
      if (this.#transport.writableNeedDrain || this.#transport.destroyed) return false;
      if (stream.canSend(this.window)) {
        this.#send(stream);
        sent = true;
      } else if (this.window > 0) this.#sending.delete(stream); // it says so when it can again
    }
    return sent;
  }

  #send(stream: Http2Stream): void {
    const trailers = stream.trailers();
    if (trailers) {
      this.headers(stream.id, trailers, true);
      stream.markEnded();
      return;
    }
    const max = Math.min(
      this.frameBytes,
      MAX_DATA_BYTES,
      Math.max(0, Math.min(this.window, stream.sendWindow)),
    );
    const taken = stream.take(max);
    if (!taken) return;
    const { parts, size, end, written } = taken;
    this.window -= size;
    const head = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
    writeHead(head, size, FrameType.data, end ? Flag.endStream : 0, stream.id);
    for (const piece of joinSmall([head, ...parts])) this.write(piece);
    for (const call of written) call();
    if (end) stream.markEnded();
  }
}
