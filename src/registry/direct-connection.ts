import { connect, isIP, type Socket } from 'node:net';
import { connect as tlsConnect, type SecureContext } from 'node:tls';
import { giveBackChunk, takeChunk } from '../base/chunks.ts';
import { BuildError } from '../base/errors.ts';
import { ChunkedDecoder } from './chunked.ts';
import { bodyLength, parseResponseHead, type ResponseHead } from './response-head.ts';

/** Chunks that have come and nobody has taken; then no more are read. */
const MAX_READY = 1;

/** How a connection is made. */
export interface DirectTls {
  readonly secureContext: SecureContext;
  readonly rejectUnauthorized: boolean;
}

/**
 * One connection for answers to GET (HTTP/1.1, RFC 9112). What comes is read into chunks of memory that are used again
 * and again: with `node:http`, which copies each 64 KiB into new memory, reading took four times as much processor
 * time. Bodies that do not say their length are copied here, too.
 */
export class DirectConnection {
  readonly #socket: Socket;
  #chunk: Buffer = takeChunk();
  /** What has come and was not handed over lies between them. */
  #start = 0;
  #end = 0;
  /** Bytes of the body, still to be handed over, or Infinity while nobody knows. */
  #left = 0;
  #decoder: ChunkedDecoder | undefined;
  #head: ResponseHead | undefined;
  #asked = false;
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
    this.#socket.on('end', () => this.#ended());
    this.#socket.on('close', () => this.#fail(closedEarly()));
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** It cannot be used again: its server has closed it, or something went wrong. */
  get broken(): boolean {
    return this.#failure !== undefined;
  }

  /** Sends a request and resolves with the head of its answer. `request` is all of it, the empty line included. */
  async ask(request: string): Promise<ResponseHead> {
    this.#head = undefined;
    this.#left = 0;
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

  /** Whether more is wanted now. */
  #arrived(bytes: number): boolean {
    this.#end += bytes;
    try {
      if (!this.#asked) throw new Error('bytes that nobody has asked for');
      if (this.#head || this.#parse()) this.#split();
    } catch (error) {
      this.destroy(error as Error);
    }
    this.#wake();
    return this.#ready.length <= MAX_READY;
  }

  #parse(): boolean {
    for (;;) {
      const head = parseResponseHead(this.#chunk.subarray(this.#start, this.#end));
      if (!head && this.#end === this.#chunk.length)
        throw new BuildError('a server sends no answer but interim ones');
      if (!head) return false;
      this.#start += head.bytes;
      if (head.status === 101)
        throw new BuildError('a server changes to a protocol that nobody has asked for');
      if (head.status < 200) continue; // the answer itself follows
      const length = bodyLength(head);
      this.#decoder = length === 'chunked' ? new ChunkedDecoder() : undefined;
      this.#left = typeof length === 'number' ? length : Number.POSITIVE_INFINITY;
      this.#head = head;
      return true;
    }
  }

  #split(): void {
    if (this.#left === Number.POSITIVE_INFINITY) this.#copy();
    else this.#cut();
    if (this.#left === 0) this.#asked = false;
  }

  /** Sets apart what is whole: a full chunk, or the last. */
  #cut(): void {
    const have = this.#end - this.#start;
    const surplus = have - this.#left;
    if (surplus < 0 && this.#end < this.#chunk.length) return;
    this.#handOver(Math.min(have, this.#left));
    if (surplus > 0) this.destroy(new Error('more bytes than the answer has'));
  }

  #copy(): void {
    const data = Buffer.from(this.#chunk.subarray(this.#start, this.#end));
    this.#start = 0;
    this.#end = 0;
    const parts = this.#decoder ? this.#decoder.push(data) : [data];
    this.#ready.push(...parts.filter((part) => part.length > 0));
    if (this.#decoder?.isDone) this.#left = 0;
  }

  #ended(): void {
    if (this.#left === Number.POSITIVE_INFINITY && !this.#decoder) this.#left = 0;
    this.#fail(closedEarly());
  }

  #handOver(bytes: number): void {
    this.#left -= bytes;
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
    if (this.#head && this.#left > 0 && this.#end > this.#start) this.#handOver(this.#end - this.#start);
    this.#wake();
  }
}

function closedEarly(): Error {
  return Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
}
