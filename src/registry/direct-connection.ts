import { connect, isIP, type Socket } from 'node:net';
import { connect as tlsConnect, type SecureContext } from 'node:tls';
import { giveBackChunk, takeChunk } from '../base/chunks.ts';
import { parseResponseHead, plainLength, type ResponseHead } from './response-head.ts';

/** Chunks that have come and nobody has taken; then no more are read. */
const MAX_READY = 1;

/** Answers whose body has nothing to add: it is taken for empty if its length is not plain. */
const SAID_BY_HEAD = [301, 302, 303, 307, 308, 404];

/** How a connection is made. */
export interface DirectTls {
  readonly secureContext: SecureContext;
  readonly rejectUnauthorized: boolean;
}

/** An answer in a form that is left to others. */
export class NotPlainError extends Error {
  /** Whether the server's next answers will be like that, as far as can be told. */
  readonly usual: boolean;

  constructor(message: string, usual: boolean) {
    super(message);
    this.usual = usual;
  }
}

/**
 * One connection for answers of plain length (HTTP/1.1, RFC 9112). What comes is read into chunks of memory that are
 * used again and again: with `node:http`, which copies each 64 KiB into new memory, reading took four times as much
 * processor time.
 */
export class DirectConnection {
  readonly #socket: Socket;
  #chunk: Buffer = takeChunk();
  /** What has come and was not handed over lies between them. */
  #start = 0;
  #end = 0;
  /** Of the body, still to be handed over; undefined while its head has not come. */
  #left: number | undefined;
  #head: ResponseHead | undefined;
  #asked = false;
  #unread = false;
  readonly #ready: Buffer[] = [];
  #failure: Error | undefined;
  #wake: () => void = () => {};

  constructor(url: URL, tls: DirectTls | undefined) {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const onread = {
      buffer: () => this.#room(),
      callback: (bytes: number) => this.#arrived(bytes),
    };
    const port = Number(url.port || (tls ? 443 : 80));
    // The declarations know buffers only; a function that gives them is as good.
    const options = { host, port, noDelay: true, onread: onread as never };
    this.#socket = tls
      ? tlsConnect({
          ...options,
          ...tls,
          ...(isIP(host) ? {} : { servername: host }),
          ALPNProtocols: ['http/1.1'],
        } as never)
      : connect(options);
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('end', () => this.#fail(closedEarly()));
    this.#socket.on('close', () => this.#fail(closedEarly()));
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** It cannot be used again: its server has closed it, something went wrong, or a body was left in it. */
  get broken(): boolean {
    return this.#failure !== undefined || this.#unread;
  }

  /** Sends a request and resolves with the head of its answer. `request` is all of it, the empty line included. */
  async ask(request: string): Promise<ResponseHead> {
    this.#head = undefined;
    this.#left = undefined;
    this.#asked = true;
    this.#socket.write(request, 'latin1');
    while (!this.#head) {
      if (this.#failure) throw this.#failure;
      await this.#more();
    }
    return this.#head;
  }

  /** The next chunk of the body, the taker's own; undefined after the last. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      const chunk = this.#ready.shift();
      if (chunk) {
        if (this.#ready.length < MAX_READY) this.#socket.resume();
        return chunk;
      }
      if (this.#left === 0) return undefined;
      if (this.#failure) throw this.#failure;
      await this.#more();
    }
  }

  destroy(error?: Error): void {
    this.#fail(error ?? closedEarly());
    this.#socket.destroy();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #room(): Buffer {
    // It is full after an error only, and then nothing is read any more.
    return this.#end < this.#chunk.length ? this.#chunk.subarray(this.#end) : this.#chunk;
  }

  /** false: enough for now. */
  #arrived(bytes: number): boolean {
    this.#end += bytes;
    if (!this.#asked) this.destroy(new Error('bytes that nobody has asked for'));
    else if (this.#head || this.#parse()) this.#split();
    this.#wake();
    return this.#ready.length <= MAX_READY;
  }

  #parse(): boolean {
    let head: ResponseHead | undefined;
    try {
      for (;;) {
        head = parseResponseHead(this.#chunk.subarray(this.#start, this.#end));
        if (!head && this.#end === this.#chunk.length) throw new Error('answers that are none');
        if (!head) return false;
        this.#start += head.bytes;
        if (head.status < 200 && head.status !== 101) continue; // the answer itself follows
        let length = plainLength(head);
        if (length === undefined && SAID_BY_HEAD.includes(head.status)) {
          length = 0;
          this.#unread = true;
        }
        if (length === undefined) throw new Error('no plain length');
        this.#head = head;
        this.#left = length;
        return true;
      }
    } catch (error) {
      this.destroy(new NotPlainError((error as Error).message, !head || head.status < 300));
      return false;
    }
  }

  /** Sets apart what is whole: a full chunk, or the last. */
  #split(): void {
    const left = this.#left ?? 0;
    const have = this.#end - this.#start;
    if (have < left && this.#end < this.#chunk.length) return;
    this.#handOver(Math.min(have, left));
    if (this.#left === 0) this.#asked = false;
    if (have > left) this.destroy(new Error('more bytes than the answer has'));
  }

  #handOver(bytes: number): void {
    this.#left = (this.#left ?? 0) - bytes;
    if (bytes > 0) this.#ready.push(this.#chunk.subarray(this.#start, this.#start + bytes));
    else giveBackChunk(this.#chunk);
    this.#chunk = takeChunk();
    this.#start = 0;
    this.#end = 0;
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    // What has come of a body is worth something: the rest can be asked for.
    if (this.#head && this.#left && this.#end > this.#start) this.#handOver(this.#end - this.#start);
    this.#wake();
  }
}

function closedEarly(): Error {
  return Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
}
