import type { Digest } from '../../base/digest.ts';
import type { SolveStatus, VertexState, VertexStatusState, VertexWarning } from '../types.ts';

/** Messages that wait for a reader as they came. */
const MAX_KEPT = 1_000;
/** Bytes of logs in them. */
const MAX_KEPT_LOG_BYTES = 16 << 20;

/**
 * Messages of a build on their way to one reader, who may be slow, late or absent: a build never waits for it. What
 * exceeds the limits is folded into one message, with the latest state of each step and without logs.
 */
export class ProgressQueue implements AsyncIterable<SolveStatus> {
  #kept: SolveStatus[] = [];
  #logBytes = 0;
  #folded: Folded | undefined;
  #ended = false;
  #taken = false;
  #wake: (() => void) | undefined;

  push(status: SolveStatus): void {
    if (this.#ended) return;
    this.#kept.push(status);
    this.#logBytes += logBytes(status);
    while (this.#kept.length > MAX_KEPT || (this.#logBytes > MAX_KEPT_LOG_BYTES && this.#kept.length > 1))
      this.#fold();
    this.#wake?.();
  }

  /** Nothing more comes. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SolveStatus> {
    if (this.#taken) throw new TypeError('the progress of a build can be read once');
    this.#taken = true;
    try {
      for (;;) {
        const next = this.#next();
        if (next) yield next;
        else if (this.#ended) return;
        else await this.#more();
      }
    } finally {
      this.#ended = true; // nobody reads any more
      this.#kept = [];
      this.#folded = undefined;
    }
  }

  #next(): SolveStatus | undefined {
    const folded = this.#folded;
    this.#folded = undefined;
    if (folded) return folded.status();
    const next = this.#kept.shift();
    if (next) this.#logBytes -= logBytes(next);
    return next;
  }

  async #more(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }

  #fold(): void {
    const oldest = this.#kept.shift()!;
    this.#logBytes -= logBytes(oldest);
    this.#folded ??= new Folded();
    this.#folded.add(oldest);
  }
}

function logBytes({ logs }: SolveStatus): number {
  let bytes = 0;
  for (const { data } of logs) bytes += data.byteLength;
  return bytes;
}

class Folded {
  readonly #vertexes = new Map<Digest, VertexState>();
  readonly #statuses = new Map<string, VertexStatusState>();
  readonly #warnings: VertexWarning[] = [];

  add({ vertexes, statuses, warnings }: SolveStatus): void {
    for (const vertex of vertexes) this.#vertexes.set(vertex.digest, vertex);
    for (const status of statuses) this.#statuses.set(`${status.vertex} ${status.id}`, status);
    this.#warnings.push(...warnings);
  }

  status(): SolveStatus {
    return {
      vertexes: [...this.#vertexes.values()],
      statuses: [...this.#statuses.values()],
      logs: [],
      warnings: this.#warnings,
    };
  }
}
