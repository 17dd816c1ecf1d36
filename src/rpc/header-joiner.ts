import { MAX_FRAME_BYTES } from './transport.ts';

/** CONTINUATION frames that the HTTP/2 library takes in one header block before it drops the connection. */
const MAX_CONTINUATIONS = 8;
const PREFACE_BYTES = 24;
const FRAME_HEADER_BYTES = 9;
const HEADERS = 1;
const SETTINGS = 4;
const CONTINUATION = 9;
const FLAG_ACK = 1;
const FLAG_END_HEADERS = 4;
const FLAG_PADDED = 8;

/**
 * Rewrites what an HTTP/2 client sends, so that a header block of many CONTINUATION frames arrives as one
 * HEADERS frame. A local source with thousands of exclude patterns makes a block of hundreds of KB, other
 * implementations split it into 16 KiB frames, and node:http2 takes nine of them. Everything else passes
 * untouched, without a copy.
 */
export class HeaderJoiner {
  /** Bytes that pass before the next frame header. */
  #passing = PREFACE_BYTES;
  /** Unfinished frame header, or frames of an unfinished header block. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #acknowledged = false;

  /** What to hand on for `chunk`, in order. */
  push(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#heldBytes > 0) {
        rest = Buffer.concat([...this.#held, rest]);
        this.#held = [];
        this.#heldBytes = 0;
      }
      const taken = this.#passing > 0 ? this.#pass(rest, out) : this.#frame(rest, out);
      if (taken === 0) {
        this.#held = [rest];
        this.#heldBytes = rest.length;
        break;
      }
      rest = rest.subarray(taken);
    }
    return out;
  }

  #pass(rest: Buffer, out: Buffer[]): number {
    const size = Math.min(this.#passing, rest.length);
    this.#passing -= size;
    out.push(rest.subarray(0, size));
    return size;
  }

  /** Number of bytes used of `rest`, which starts with a frame; 0 when more are needed. */
  #frame(rest: Buffer, out: Buffer[]): number {
    if (rest.length < FRAME_HEADER_BYTES) return 0;
    const type = rest[3] as number;
    const flags = rest[4] as number;
    if (type === SETTINGS && flags & FLAG_ACK) this.#acknowledged = true;
    if (type === HEADERS && !(flags & FLAG_END_HEADERS)) return this.#block(rest, out);
    this.#passing = FRAME_HEADER_BYTES + rest.readUIntBE(0, 3);
    return this.#pass(rest, out);
  }

  #block(rest: Buffer, out: Buffer[]): number {
    const payloads: Buffer[] = [];
    let at = 0;
    for (;;) {
      if (rest.length < at + FRAME_HEADER_BYTES) return 0;
      const size = rest.readUIntBE(at, 3);
      const end = at + FRAME_HEADER_BYTES + size;
      const wrong = at > 0 && rest[at + 3] !== CONTINUATION;
      if (rest.length < end && !wrong) return 0;
      payloads.push(rest.subarray(at + FRAME_HEADER_BYTES, end));
      const last = ((rest[at + 4] as number) & FLAG_END_HEADERS) !== 0;
      at = end;
      if (last || wrong) {
        const joined =
          wrong || payloads.length <= MAX_CONTINUATIONS || !this.#acknowledged
            ? undefined
            : join(rest, payloads);
        out.push(...(joined ?? [rest.subarray(0, at)]));
        return Math.min(at, rest.length);
      }
    }
  }
}

/** undefined when the block is too large for one frame. */
function join(first: Buffer, payloads: readonly Buffer[]): Buffer[] | undefined {
  let flags = (first[4] as number) | FLAG_END_HEADERS;
  const parts = [...payloads];
  if (flags & FLAG_PADDED) {
    const head = parts[0] as Buffer;
    parts[0] = head.subarray(1, head.length - (head[0] as number));
    flags &= ~FLAG_PADDED;
  }
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  if (size > MAX_FRAME_BYTES) return undefined;
  const header = Buffer.from(first.subarray(0, FRAME_HEADER_BYTES));
  header.writeUIntBE(size, 0, 3);
  header[4] = flags;
  return [header, ...parts];
}
