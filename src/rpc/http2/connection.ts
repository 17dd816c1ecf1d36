import type { Duplex } from 'node:stream';
import { FrameParser, type FrameSink } from './frame-parser.ts';
import {
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  expectLength,
  Flag,
  type FrameHead,
  FrameType,
  frame,
  MAX_WINDOW_BYTES,
  PREFACE,
  ProtocolError,
  resetFrame,
  Setting,
  settingsPayload,
  unpadded,
  words,
} from './frames.ts';
import { HeaderBlocks } from './header-blocks.ts';
import type { ConnectionOptions } from './options.ts';
import { Outbound } from './outbound.ts';
import { Http2Stream, type StreamHost } from './stream.ts';

/** How long the peer may take to hang up after everything has been said. */
const LINGER_MS = 1000;

/** A request for which the peer has no room yet. */
interface Waiting {
  readonly stream: Http2Stream;
  readonly headers: readonly string[];
}

/**
 * One end of an HTTP/2 connection over any byte stream (RFC 9113), with what gRPC needs: no push, no priorities,
 * no upgrade. The stream belongs to it. With `onStream` it is the server's end.
 */
export class Http2Connection implements StreamHost, FrameSink {
  readonly windowBytes: number;
  readonly #transport: Duplex;
  readonly #options: ConnectionOptions;
  readonly #server: boolean;
  readonly #out: Outbound;
  readonly #parser: FrameParser;
  readonly #blocks: HeaderBlocks;
  readonly #streams = new Map<number, Http2Stream>();
  readonly #waiting: Waiting[] = [];
  readonly #closed = Promise.withResolvers<Error | undefined>();
  #nextId = 1;
  #lastPeerId = 0;
  #peerMaxStreams = Number.POSITIVE_INFINITY;
  #peerWindow = DEFAULT_WINDOW_BYTES;
  #window: number;
  #prefaceLeft: Buffer;
  #receiving: Http2Stream | undefined;
  #introduced = false;
  #closing = false;
  #over = false;
  #failure: Error | undefined;

  constructor(transport: Duplex, options: ConnectionOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#server = options.onStream !== undefined;
    this.windowBytes = options.streamWindowBytes;
    this.#window = options.connectionWindowBytes;
    this.#out = new Outbound(transport);
    this.#parser = new FrameParser(this, options.maxFrameBytes);
    this.#blocks = new HeaderBlocks({ maxBytes: options.maxHeaderBytes, maxPairs: options.maxHeaderPairs });
    this.#prefaceLeft = this.#server ? PREFACE : Buffer.alloc(0);
    this.#introduce();
    transport.on('readable', () => this.#read());
    transport.on('error', (error) => this.#end(error));
    transport.on('close', () => this.#end(undefined));
    transport.on('end', () => this.#end(undefined));
    this.#read();
  }

  /** Resolves when the connection is gone, with what broke it if it did not end in order. */
  get closed(): Promise<Error | undefined> {
    return this.#closed.promise;
  }

  /** New streams can be opened. */
  get isOpen(): boolean {
    return !this.#over && !this.#closing;
  }

  /** What broke the connection, if anything did. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Begins a stream, now or as soon as the peer allows one more. */
  open(headers: readonly string[]): Http2Stream {
    const stream = new Http2Stream(this);
    this.#waiting.push({ stream, headers });
    this.#admit();
    return stream;
  }

  /** Lets streams end, takes no new ones, then hangs up. */
  close(): void {
    if (this.#closing || this.#over) return;
    this.#closing = true;
    this.#goaway(ErrorCode.noError, '');
    this.#hangUpWhenDone();
  }

  /** Ends everything at once. */
  destroy(): void {
    if (this.#over) return;
    this.#end(undefined);
    this.#transport.destroy();
  }

  // ---- what streams ask for

  grant(stream: Http2Stream, bytes: number): void {
    this.#out.write(frame(FrameType.windowUpdate, 0, stream.id, words(bytes)));
  }

  wants(stream: Http2Stream): void {
    if (stream.id !== 0) this.#out.want(stream);
  }

  sendHeaders(stream: Http2Stream, list: readonly string[], end: boolean): void {
    this.#out.headers(stream.id, list, end);
  }

  sendReset(stream: Http2Stream, code: number): void {
    if (stream.id === 0) return;
    this.#out.pump(); // what was written before may say why
    this.#out.write(resetFrame(stream.id, code));
  }

  gone(stream: Http2Stream): void {
    this.#out.forget(stream);
    if (stream.id !== 0) this.#streams.delete(stream.id);
    else {
      const at = this.#waiting.findIndex((w) => w.stream === stream);
      if (at >= 0) this.#waiting.splice(at, 1);
    }
    this.#admit();
    this.#hangUpWhenDone();
  }

  // ---- what comes in

  dataFrame(head: FrameHead): void {
    this.#blocks.check(head);
    this.#window -= head.length;
    if (this.#window < 0)
      throw new ProtocolError('more data than the window of the connection', ErrorCode.flowControlError);
    this.#receiving = this.#streamOf(head);
    this.#receiving?.expect(head.length);
    this.#refill();
  }

  /** A stream that is not read must not hold up the others, so only the streams' windows wait for readers. */
  #refill(): void {
    const { connectionWindowBytes } = this.#options;
    if (this.#window > connectionWindowBytes / 2) return;
    this.#out.write(frame(FrameType.windowUpdate, 0, 0, words(connectionWindowBytes - this.#window)));
    this.#window = connectionWindowBytes;
  }

  dataPart(part: Buffer): void {
    if (!this.#receiving?.closed) this.#receiving?.receive(part); // else what was under way as it was reset
  }

  dataEnd(head: FrameHead): void {
    if (head.flags & Flag.endStream) this.#receiving?.receiveEnd();
    this.#receiving = undefined;
  }

  frame(head: FrameHead, payload: Buffer): void {
    this.#blocks.check(head);
    if (!this.#introduced && head.type !== FrameType.settings)
      throw new ProtocolError('the first frame has no settings');
    const { type } = head;
    if (type === FrameType.data) this.#paddedData(head, payload);
    else if (type === FrameType.headers) this.#headers(head, unpadded(payload, head));
    else if (type === FrameType.continuation) this.#headers(head, payload);
    else if (type === FrameType.rstStream) this.#peerResets(head, payload);
    else if (type === FrameType.settings) this.#settings(head, payload);
    else if (type === FrameType.ping) this.#ping(head, payload);
    else if (type === FrameType.goaway) this.#peerLeaves(payload);
    else if (type === FrameType.windowUpdate) this.#windowUpdate(head, payload);
    else if (type === FrameType.pushPromise) throw new ProtocolError('a push that was not allowed');
    // Else priorities, and what later versions know.
  }

  #peerResets(head: FrameHead, payload: Buffer): void {
    expectLength(head, 4);
    this.#streamOf(head)?.close(payload.readUInt32BE(0));
  }

  #ping(head: FrameHead, payload: Buffer): void {
    expectLength(head, 8);
    if (!(head.flags & Flag.ack)) this.#answer(frame(FrameType.ping, Flag.ack, 0, payload));
  }

  #paddedData(head: FrameHead, payload: Buffer): void {
    this.dataFrame(head);
    const data = unpadded(payload, head);
    this.#receiving?.skip(head.length - data.length);
    this.dataPart(data);
    this.dataEnd(head);
  }

  #headers(head: FrameHead, fragment: Buffer): void {
    const block = this.#blocks.add(head, fragment);
    if (block) this.#headerBlock(block.head, block.list);
  }

  #headerBlock(head: FrameHead, list: readonly string[]): void {
    const end = (head.flags & Flag.endStream) !== 0;
    const known = this.#streamOf(head, true);
    if (known) {
      if (known.ended) throw new ProtocolError('headers after the end of a stream', ErrorCode.streamClosed);
      known.receiveHeaders(list, end);
    } else if (this.#server && head.stream > this.#lastPeerId) this.#request(head.stream, list, end);
  }

  #request(id: number, list: readonly string[], end: boolean): void {
    if (id % 2 === 0) throw new ProtocolError('a request with an even number');
    this.#lastPeerId = id;
    if (this.#closing || this.#streams.size >= this.#options.maxStreams) {
      this.#answer(resetFrame(id, ErrorCode.refusedStream));
      return;
    }
    const stream = new Http2Stream(this);
    stream.id = id;
    stream.sendWindow = this.#peerWindow;
    this.#streams.set(id, stream);
    this.#options.onStream?.(stream, list);
    if (end) stream.receiveEnd();
  }

  /** The stream of a frame; undefined for one that is over. @throws ProtocolError for one that never was */
  #streamOf({ stream: id }: FrameHead, mayBegin = false): Http2Stream | undefined {
    const stream = this.#streams.get(id);
    if (stream) return stream;
    const ours = id % 2 === (this.#server ? 0 : 1);
    const begun = ours ? id < this.#nextId : id <= this.#lastPeerId;
    if (!begun && !(mayBegin && this.#server && !ours))
      throw new ProtocolError(`a frame of stream ${id}, which is idle`);
    return undefined;
  }

  #settings(head: FrameHead, payload: Buffer): void {
    if (head.stream !== 0) throw new ProtocolError('settings of a stream');
    if (head.flags & Flag.ack) {
      expectLength(head, 0);
      return;
    }
    if (payload.length % 6 !== 0) throw new ProtocolError('settings cut short', ErrorCode.frameSizeError);
    for (let at = 0; at < payload.length; at += 6)
      this.#setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    this.#answer(frame(FrameType.settings, Flag.ack, 0, Buffer.alloc(0)));
    this.#introduced = true;
    this.#admit();
    this.#out.pump();
  }

  #setting(id: number, value: number): void {
    if (id === Setting.maxConcurrentStreams) this.#peerMaxStreams = value;
    if (id === Setting.maxFrameSize) {
      if (value < 1 << 14 || value >= 1 << 24) throw new ProtocolError(`frames of ${value} bytes`);
      this.#out.frameBytes = value;
    }
    if (id === Setting.initialWindowSize) {
      if (value > MAX_WINDOW_BYTES)
        throw new ProtocolError('a window that is too large', ErrorCode.flowControlError);
      const change = value - this.#peerWindow;
      this.#peerWindow = value;
      for (const stream of this.#streams.values()) stream.grow(change);
    }
  }

  #windowUpdate(head: FrameHead, payload: Buffer): void {
    expectLength(head, 4);
    const bytes = payload.readUInt32BE(0) & MAX_WINDOW_BYTES;
    if (bytes === 0) throw new ProtocolError('a window update of nothing');
    if (head.stream !== 0) {
      this.#streamOf(head)?.grow(bytes);
      return;
    }
    this.#out.window += bytes;
    if (this.#out.window > MAX_WINDOW_BYTES)
      throw new ProtocolError('a window that is too large', ErrorCode.flowControlError);
    this.#out.pump();
  }

  #peerLeaves(payload: Buffer): void {
    if (payload.length < 8) throw new ProtocolError('a farewell cut short', ErrorCode.frameSizeError);
    const last = payload.readUInt32BE(0) & MAX_WINDOW_BYTES;
    const code = payload.readUInt32BE(4);
    this.#closing = true;
    if (code !== ErrorCode.noError)
      this.#failure ??= new Error(`connection refused further work (code ${code})`);
    const refused = this.#waiting.map((w) => w.stream);
    if (!this.#server) for (const [id, stream] of this.#streams) if (id > last) refused.push(stream);
    for (const stream of refused) stream.close(ErrorCode.refusedStream);
    this.#hangUpWhenDone();
  }

  // ---- the connection itself

  #introduce(): void {
    const { streamWindowBytes, connectionWindowBytes, maxFrameBytes, maxHeaderBytes, maxStreams } =
      this.#options;
    const settings = new Map<number, number>([
      [Setting.initialWindowSize, streamWindowBytes],
      [Setting.maxFrameSize, maxFrameBytes],
      [Setting.maxHeaderListSize, maxHeaderBytes],
      this.#server ? [Setting.maxConcurrentStreams, maxStreams] : [Setting.enablePush, 0],
    ]);
    if (!this.#server) this.#out.write(PREFACE);
    this.#out.write(frame(FrameType.settings, 0, 0, settingsPayload(settings)));
    const more = connectionWindowBytes - DEFAULT_WINDOW_BYTES;
    this.#out.write(frame(FrameType.windowUpdate, 0, 0, words(more)));
  }

  #read(): void {
    try {
      for (;;) {
        const chunk: Buffer | null = this.#transport.read();
        if (chunk === null) return;
        if (this.#over) continue; // what comes after the end is thrown away
        this.#parser.push(this.#prefaceLeft.length > 0 ? this.#preface(chunk) : chunk);
      }
    } catch (error) {
      const code = error instanceof ProtocolError ? error.code : ErrorCode.internalError;
      const failure = error instanceof Error ? error : new Error(String(error));
      this.#goaway(code, failure.message);
      this.#end(failure);
      this.#hangUp();
    }
  }

  #preface(chunk: Buffer): Buffer {
    const size = Math.min(chunk.length, this.#prefaceLeft.length);
    if (!chunk.subarray(0, size).equals(this.#prefaceLeft.subarray(0, size)))
      throw new ProtocolError('not HTTP/2');
    this.#prefaceLeft = this.#prefaceLeft.subarray(size);
    return chunk.subarray(size);
  }

  #admit(): void {
    while (this.#waiting.length > 0 && this.isOpen && this.#streams.size < this.#peerMaxStreams) {
      const { stream, headers } = this.#waiting.shift() as Waiting;
      stream.id = this.#nextId;
      this.#nextId += 2;
      stream.sendWindow = this.#peerWindow;
      this.#streams.set(stream.id, stream);
      this.#out.headers(stream.id, headers, false);
      this.#out.want(stream);
    }
  }

  /** Sends what a frame of the peer asks for. */
  #answer(bytes: Buffer): void {
    if (this.#out.unsentAnswerBytes > this.#options.maxUnsentAnswerBytes)
      throw new ProtocolError('a peer that asks and does not listen', ErrorCode.enhanceYourCalm);
    this.#out.answer(bytes);
  }

  #goaway(code: number, text: string): void {
    const payload = Buffer.concat([words(this.#lastPeerId, code), Buffer.from(text)]);
    this.#out.write(frame(FrameType.goaway, 0, 0, payload));
  }

  #hangUpWhenDone(): void {
    if (!this.#closing || this.#over || this.#streams.size > 0 || this.#waiting.length > 0) return;
    this.#end(undefined);
    this.#hangUp();
  }

  /** What was said still goes out. */
  #hangUp(): void {
    const transport = this.#transport;
    if (transport.destroyed) return;
    transport.end();
    const timer = setTimeout(() => transport.destroy(), LINGER_MS).unref();
    transport.once('close', () => clearTimeout(timer));
  }

  #end(error: Error | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#failure ??= error;
    for (const { stream } of this.#waiting.splice(0)) stream.close(undefined);
    for (const stream of [...this.#streams.values()]) stream.close(undefined);
    this.#closed.resolve(this.#failure);
    if (this.#transport.readableEnded) this.#transport.end();
  }
}
