import { BuildError, Code, canceled } from '../base/errors.ts';
import { bytesCodec } from './bytes-message.ts';
import { encodeFrame, FrameReader } from './framing.ts';
import { ErrorCode } from './http2/frames.ts';
import type { Http2Stream } from './http2/stream.ts';
import { SEND_QUEUE_BYTES } from './transport.ts';
import type { MessageStream, MessageType } from './types.ts';
import { walkFields } from './well-formed.ts';

const SENT = Promise.resolve();

/**
 * The part of a call that both sides share: frames in, frames out with backpressure, one abort
 * signal. `finish` settles it; the first outcome counts.
 */
export class CallStream<In, Out> implements MessageStream<In, Out> {
  readonly #stream: Http2Stream;
  readonly #in: MessageType<In>;
  readonly #out: MessageType<Out>;
  readonly #reader: FrameReader;
  readonly #abort = new AbortController();
  #queued = 0;
  #room: { promise: Promise<void>; open: () => void } | undefined;
  #ended = false;
  #failure: BuildError | undefined;

  constructor(stream: Http2Stream, input: MessageType<In>, output: MessageType<Out>) {
    this.#stream = stream;
    this.#in = input;
    this.#out = output;
    this.#reader = new FrameReader(stream);
  }

  get takesPieces(): boolean {
    return (this.#out as unknown) === bytesCodec;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get failure(): BuildError | undefined {
    return this.#failure;
  }

  /** Ends the call with an error: readers, senders and the signal see it. */
  fail(error: BuildError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#reader.fail(error);
    this.#openRoom();
    this.#abort.abort(error);
  }

  /** Something came, or the end of what comes. */
  protected wake(): void {
    this.#reader.wake();
  }

  /** Nobody will call `receive` any more. */
  protected discard(): void {
    this.#reader.discard();
  }

  async receive(): Promise<In | undefined> {
    const bytes = await this.#reader.next();
    if (bytes === undefined) return await this.atEnd();
    try {
      if (!this.#in.strict) walkFields(bytes);
      return this.#in.decode(bytes);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      throw new BuildError(`grpc: error unmarshalling request: ${text}`, {
        code: Code.internal,
        cause: error,
      });
    }
  }

  /** What the end of the incoming messages means; a client waits for the status here. */
  protected async atEnd(): Promise<undefined> {
    if (this.#failure) throw this.#failure;
    return undefined;
  }

  send(message: Out): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#ended || this.#stream.closed) return Promise.reject(canceled());
    let frame: readonly Buffer[];
    try {
      frame = encodeFrame(this.#out, message);
    } catch (error) {
      return Promise.reject(error);
    }
    for (const part of frame) this.#write(part);
    return this.#queued <= SEND_QUEUE_BYTES ? SENT : this.#waitForRoom();
  }

  #write(part: Buffer): void {
    this.#queued += part.byteLength;
    this.#stream.write(part, () => {
      this.#queued -= part.byteLength;
      if (this.#queued <= SEND_QUEUE_BYTES / 2) this.#openRoom();
    });
  }

  #waitForRoom(): Promise<void> {
    if (!this.#room) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#room = { promise, open: resolve };
    }
    return this.#room.promise.then(() => {
      if (this.#failure) throw this.#failure;
    });
  }

  #openRoom(): void {
    this.#room?.open();
    this.#room = undefined;
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stream.end();
  }

  cancel(reason?: unknown): void {
    this.fail(reason === undefined ? canceled() : BuildError.from(reason));
    this.#stream.reset(ErrorCode.cancel);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<In> {
    for (;;) {
      const message = await this.receive();
      if (message === undefined) return;
      yield message;
    }
  }
}
