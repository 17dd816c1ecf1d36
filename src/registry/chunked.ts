import { BuildError } from '../base/errors.ts';

/** A line with the size of a chunk, and its extensions. */
const MAX_LINE_BYTES = 4096;
/** Lines after the last chunk. */
const MAX_TRAILER_BYTES = 64 << 10;
const SIZE_LINE = /^([0-9a-fA-F]{1,13})[ \t]*(?:;[^\0\r\n]*)?$/;

/** Takes the chunks out of a body in chunked transfer coding (RFC 9112 section 7.1). */
export class ChunkedDecoder {
  /** Beginning of a line whose end has not come. */
  #line = '';
  /** Of the present chunk, still to come. */
  #left = 0;
  #state: 'size' | 'data' | 'end of data' | 'trailer' | 'done' = 'size';
  #trailerBytes = 0;

  /** The end of the body has come. */
  get isDone(): boolean {
    return this.#state === 'done';
  }

  /** Data of the body, as parts of `data`. @throws BuildError for what is no chunk, and for bytes after the end */
  push(data: Buffer): Buffer[] {
    const parts: Buffer[] = [];
    for (let at = 0; at < data.length; ) {
      if (this.#state === 'done') throw bad('bytes after the last chunk');
      if (this.#state === 'data') {
        const part = data.subarray(at, at + this.#left);
        parts.push(part);
        at += part.length;
        this.#left -= part.length;
        if (this.#left === 0) this.#state = 'end of data';
      } else {
        const end = data.indexOf('\n', at);
        const stop = end < 0 ? data.length : end + 1;
        this.#line += data.toString('latin1', at, stop);
        at = stop;
        if (this.#line.length > MAX_LINE_BYTES) throw bad('a line that is too long');
        if (end >= 0) this.#endOfLine();
      }
    }
    return parts;
  }

  #endOfLine(): void {
    if (!this.#line.endsWith('\r\n')) throw bad('a line without its end');
    const text = this.#line.slice(0, -2);
    this.#line = '';
    if (this.#state === 'size') {
      const size = SIZE_LINE.exec(text)?.[1];
      if (size === undefined) throw bad(`size ${JSON.stringify(text.slice(0, 100))}`);
      this.#left = Number.parseInt(size, 16);
      this.#state = this.#left === 0 ? 'trailer' : 'data';
    } else if (this.#state === 'end of data') {
      if (text !== '') throw bad('more data than its size');
      this.#state = 'size';
    } else if (text === '') {
      this.#state = 'done';
    } else {
      this.#trailerBytes += text.length;
      if (this.#trailerBytes > MAX_TRAILER_BYTES) throw bad('too many lines after the last chunk');
    }
  }
}

function bad(what: string): BuildError {
  return new BuildError(`malformed chunks in the answer of a server: ${what}`);
}
