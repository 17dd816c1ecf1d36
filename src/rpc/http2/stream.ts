import { DEFAULT_WINDOW_BYTES, ErrorCode, MAX_WINDOW_BYTES, ProtocolError } from './frames.ts';

/** What a stream's user is told. */
export interface StreamEvents {
  /** A header block has come: the first ones, or those after the data. Flat list, as the wire has it. */
  headers(list: readonly string[]): void;
  /** There is something to `read`, or `ended` has become true. */
  readable(): void;
  /**
   * Nothing goes out or comes in any more; what has come can still be read.
   * 0: both sides are done; another number: reset with that code; undefined: the connection is gone.
   */
  closed(code: number | undefined): void;
}

/** What a stream asks of its connection. */
export interface StreamHost {
  readonly windowBytes: number;
  grant(stream: Http2Stream, bytes: number): void;
  /** The stream has something to send. */
  wants(stream: Http2Stream): void;
  sendHeaders(stream: Http2Stream, list: readonly string[], end: boolean): void;
  sendReset(stream: Http2Stream, code: number): void;
  gone(stream: Http2Stream): void;
}

interface Queued {
  readonly bytes: Buffer;
  readonly written: (() => void) | undefined;
}

/** Bytes on their way into a frame. */
export interface Taken {
  readonly parts: readonly Buffer[];
  /** Bytes of all parts. */
  readonly size: number;
  /** They are the last, and no headers follow them. */
  readonly end: boolean;
  /** To be called when they have left. */
  readonly written: readonly (() => void)[];
}

/** One stream of an HTTP/2 connection: a request with its response (RFC 9113, section 5). */
export class Http2Stream {
  /** 0 while the peer lets us open no more streams. */
  id = 0;
  events: StreamEvents | undefined;
  /** Bytes that the peer takes now. */
  sendWindow = DEFAULT_WINDOW_BYTES;
  readonly #host: StreamHost;
  /** Bytes that the peer may send now. */
  #window: number;
  #unread: Buffer[] = [];
  #discarding = false;
  #consumed = 0;
  #queue: Queued[] = [];
  #offset = 0;
  #last: 'open' | 'end' | readonly string[] = 'open';
  #sentEnd = false;
  #gotEnd = false;
  #closed = false;

  constructor(host: StreamHost) {
    this.#host = host;
    this.#window = host.windowBytes;
  }

  /** The peer sends no more. */
  get ended(): boolean {
    return this.#gotEnd || this.#closed;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** `end` has been called, and what was written before is on its way. */
  get sentEnd(): boolean {
    return this.#sentEnd;
  }

  // ---- incoming

  /** What has come, in order: a view into a network buffer. Reading lets the peer send more. */
  read(): Buffer | undefined {
    const part = this.#unread.shift();
    if (part) this.#take(part.length);
    return part;
  }

  /** What has come and still comes is thrown away. */
  discard(): void {
    this.#discarding = true;
    for (const part of this.#unread.splice(0)) this.#take(part.length);
  }

  /** Bytes that count for the window and are no data. */
  skip(bytes: number): void {
    this.#take(bytes);
  }

  #take(bytes: number): void {
    this.#consumed += bytes;
    if (this.ended || this.#consumed < this.#host.windowBytes / 2) return;
    this.#window += this.#consumed;
    this.#host.grant(this, this.#consumed);
    this.#consumed = 0;
  }

  /** A DATA frame of this length begins. */
  expect(bytes: number): void {
    if (this.#gotEnd) throw new ProtocolError('data after the end of a stream', ErrorCode.streamClosed);
    this.#window -= bytes;
    if (this.#window < 0)
      throw new ProtocolError('more data than the window of a stream', ErrorCode.flowControlError);
  }

  receive(part: Buffer): void {
    if (this.#discarding) {
      this.#take(part.length);
      return;
    }
    this.#unread.push(part);
    this.events?.readable();
  }

  receiveHeaders(list: readonly string[], end: boolean): void {
    this.events?.headers(list);
    if (end) this.receiveEnd();
  }

  receiveEnd(): void {
    if (this.#gotEnd) return;
    this.#gotEnd = true;
    this.events?.readable();
    if (this.#sentEnd) this.close(0);
  }

  // ---- outgoing

  headers(list: readonly string[], options: { readonly end?: boolean } = {}): void {
    if (this.#closed) return;
    const end = options.end === true;
    this.#host.sendHeaders(this, list, end);
    if (end) this.#finished();
  }

  /** `written` is called when the bytes have left the queue: to the transport, or with the stream. */
  write(bytes: Buffer, written?: () => void): void {
    if (this.#closed || this.#sentEnd || this.#last !== 'open') return;
    this.#queue.push({ bytes, written });
    this.#host.wants(this);
  }

  /** Ends our side after what was written, with headers when they are given. */
  end(trailers?: readonly string[]): void {
    if (this.#closed || this.#sentEnd || this.#last !== 'open') return;
    this.#last = trailers ?? 'end';
    this.#host.wants(this);
  }

  /** Gives the stream up, unless it is over. */
  reset(code: number): void {
    if (this.#closed) return;
    this.#host.sendReset(this, code);
    this.close(code);
  }

  /** True when there is anything that flow control lets out now, given what the connection lets out. */
  canSend(connectionWindow: number): boolean {
    if (this.#closed || this.id === 0) return false;
    if (this.#queue.length === 0) return this.#last !== 'open' && !this.#sentEnd;
    return Math.min(connectionWindow, this.sendWindow) > 0 || this.#queue[0]?.bytes.length === 0;
  }

  /** Takes up to `max` bytes off the queue, of as many writes as that is. */
  take(max: number): Taken | undefined {
    if (this.#queue.length === 0)
      return this.#last === 'end' ? { parts: [], size: 0, end: true, written: [] } : undefined;
    const parts: Buffer[] = [];
    const written: (() => void)[] = [];
    let size = 0;
    let whole = 0;
    for (; whole < this.#queue.length && (size < max || parts.length === 0); whole++) {
      const next = this.#queue[whole] as Queued;
      const part = next.bytes.subarray(this.#offset, this.#offset + max - size);
      parts.push(part);
      size += part.length;
      this.#offset += part.length;
      if (this.#offset < next.bytes.length) break;
      this.#offset = 0;
      if (next.written) written.push(next.written);
    }
    this.#queue.splice(0, whole);
    this.sendWindow -= size;
    return { parts, size, end: this.#queue.length === 0 && this.#last === 'end', written };
  }

  /** The headers that end the stream, when everything before them has been taken. */
  trailers(): readonly string[] | undefined {
    return this.#queue.length === 0 && typeof this.#last === 'object' ? this.#last : undefined;
  }

  /** Our end has been sent. */
  markEnded(): void {
    this.#finished();
  }

  grow(bytes: number): void {
    this.sendWindow += bytes;
    if (this.sendWindow > MAX_WINDOW_BYTES)
      throw new ProtocolError('a window that is too large', ErrorCode.flowControlError);
    this.#host.wants(this);
  }

  #finished(): void {
    this.#sentEnd = true;
    if (this.#gotEnd) this.close(0);
  }

  /** Settles the stream; called by the connection too. */
  close(code: number | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.gone(this);
    this.events?.closed(code);
    for (const { written } of this.#queue.splice(0)) written?.();
  }
}
