import type { VertexProgress } from '../solver/types.ts';

/** Limits of one step's log, per stream (FEATURES G24). -1 means no limit. */
export interface StepLogLimits {
  readonly maxBytes: number;
  readonly maxBytesPerSecond: number;
}

export const defaultStepLogLimits: StepLogLimits = { maxBytes: 2 << 20, maxBytesPerSecond: 200 << 10 };

/** Bytes of a clipped stream's end that are kept for a failed step. */
const TAIL_BYTES = 256 << 10;

export interface StepLogOptions {
  readonly limits?: StepLogLimits;
  /** Copy of what is sent (`BUILDKIT_DEBUG_EXEC_OUTPUT`). */
  readonly tee?: (stream: 1 | 2, data: Uint8Array) => void;
  /** Milliseconds; for tests. */
  readonly now?: () => number;
}

/** Passes a step's output on to its progress, clipped at the limits. */
export class StepLog {
  readonly #streams: readonly [LimitedStream, LimitedStream];

  constructor(progress: VertexProgress, options: StepLogOptions = {}) {
    const send = (stream: 1 | 2, data: Uint8Array): void => {
      progress.log(stream, data);
      options.tee?.(stream, data);
    };
    const limits = options.limits ?? defaultStepLogLimits;
    const now = options.now ?? Date.now;
    this.#streams = [
      new LimitedStream((d) => send(1, d), limits, now),
      new LimitedStream((d) => send(2, d), limits, now),
    ];
  }

  readonly stdout = (data: Uint8Array): void => this.#streams[0].write(data);
  readonly stderr = (data: Uint8Array): void => this.#streams[1].write(data);

  /** After a failed step: what the limits cut off at the end. */
  flushTail(): void {
    for (const stream of this.#streams) stream.flushTail();
  }
}

class LimitedStream {
  readonly #send: (data: Uint8Array) => void;
  readonly #limits: StepLogLimits;
  readonly #now: () => number;
  readonly #started: number;
  #size = 0;
  #clipping = false;
  #tail: Tail | undefined;

  constructor(send: (data: Uint8Array) => void, limits: StepLogLimits, now: () => number) {
    this.#send = send;
    this.#limits = limits;
    this.#now = now;
    this.#started = now();
  }

  write(data: Uint8Array): void {
    const { allowed, reason } = this.#allowance();
    const room = Math.max(0, allowed - this.#size);
    this.#size += data.length;
    if (data.length <= room) {
      this.#clipping = false;
      this.#tail?.push(data);
      this.#send(data);
      return;
    }
    this.#tail ??= new Tail(TAIL_BYTES);
    this.#tail.push(data);
    if (this.#clipping) return;
    this.#clipping = true;
    const note = new TextEncoder().encode(`\n[output clipped, log limit ${reason} reached]\n`);
    this.#send(concat(data.subarray(0, room), note));
  }

  flushTail(): void {
    const tail = this.#tail?.bytes();
    this.#tail = undefined;
    if (tail && tail.length > 0) this.#send(tail);
  }

  #allowance(): { allowed: number; reason: string } {
    const { maxBytes, maxBytesPerSecond } = this.#limits;
    const bySize = maxBytes === -1 ? Number.POSITIVE_INFINITY : maxBytes;
    const seconds = Math.max(1, Math.ceil((this.#now() - this.#started) / 1000));
    const bySpeed = maxBytesPerSecond === -1 ? Number.POSITIVE_INFINITY : maxBytesPerSecond * seconds;
    return bySpeed < bySize
      ? { allowed: bySpeed, reason: `${binarySize(maxBytesPerSecond)}/s` }
      : { allowed: bySize, reason: binarySize(maxBytes) };
  }
}

/** The last `limit` bytes pushed. */
class Tail {
  readonly #limit: number;
  readonly #chunks: Uint8Array[] = [];
  #size = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  push(data: Uint8Array): void {
    this.#chunks.push(data.slice());
    this.#size += data.length;
    while (this.#chunks.length > 1 && this.#size - (this.#chunks[0]?.length ?? 0) >= this.#limit) {
      this.#size -= this.#chunks.shift()?.length ?? 0;
    }
  }

  bytes(): Uint8Array {
    const all = concat(...this.#chunks);
    return all.subarray(Math.max(0, all.length - this.#limit));
  }
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** `2MiB`, `200KiB`: binary units, at most four significant digits. */
function binarySize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}
