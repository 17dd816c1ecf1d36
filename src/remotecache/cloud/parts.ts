import { BuildError, Code } from '../../base/errors.ts';
import type { Semaphore } from '../../base/semaphore.ts';

export interface PartsOptions {
  /** Of the whole. */
  readonly sizeBytes: number;
  readonly partBytes: number;
  /** One for each part that is in memory. */
  readonly slots: Semaphore;
  readonly signal: AbortSignal;
}

/**
 * Reads `content` once, from its start, and sends it in parts of equal size, as many at a time as there are slots.
 * The results are in the order of the parts; an empty content is one part without bytes. The first failure ends all.
 * @throws BuildError when the content is not as long as it was said to be
 */
export async function sendParts<T>(
  content: AsyncIterable<Uint8Array>,
  { sizeBytes, partBytes, slots, signal }: PartsOptions,
  send: (data: Uint8Array, index: number, signal: AbortSignal) => Promise<T>,
): Promise<T[]> {
  const stop = new AbortController();
  const shared = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  const fail = (error: unknown): void => {
    failures.push(error);
    stop.abort(error);
  };
  const results: T[] = [];
  const running: Promise<void>[] = [];
  const pieces = new Pieces(content);
  try {
    for (let index = 0, at = 0; index === 0 || at < sizeBytes; index++) {
      await using guard = new AsyncDisposableStack();
      guard.use(await slots.acquire(shared));
      const data = await pieces.next(Math.min(partBytes, sizeBytes - at));
      at += data.length;
      await pieces.check(at, sizeBytes);
      shared.throwIfAborted();
      const held = guard.move();
      const one = async (): Promise<void> => {
        try {
          results[index] = await send(data, index, shared);
        } catch (error) {
          fail(error);
        } finally {
          await held.disposeAsync();
        }
      };
      running.push(one());
    }
  } catch (error) {
    fail(error);
  }
  await Promise.all(running);
  await pieces.close();
  if (failures.length > 0) throw failures[0];
  return results;
}

/** A stream cut to size. */
class Pieces {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();
  #ended = false;

  constructor(content: AsyncIterable<Uint8Array>) {
    this.#chunks = content[Symbol.asyncIterator]();
  }

  /** `size` bytes, fewer only at the end. */
  async next(size: number): Promise<Uint8Array> {
    const piece = Buffer.allocUnsafe(size);
    let filled = 0;
    while (filled < size && (this.#rest.length > 0 || (await this.#more()))) {
      const taken = this.#rest.subarray(0, size - filled);
      piece.set(taken, filled);
      filled += taken.length;
      this.#rest = this.#rest.subarray(taken.length);
    }
    return piece.subarray(0, filled);
  }

  /** @throws when the content ends too early, or goes on behind its end */
  async check(at: number, size: number): Promise<void> {
    if (this.#ended && at < size) throw wrongSize(`content ended after ${at} of ${size} bytes`);
    if (at === size && (this.#rest.length > 0 || (await this.#more())))
      throw wrongSize(`content is longer than ${size} bytes`);
  }

  async close(): Promise<void> {
    if (!this.#ended) await this.#chunks.return?.();
  }

  async #more(): Promise<boolean> {
    while (!this.#ended) {
      const { value, done } = await this.#chunks.next();
      if (done) this.#ended = true;
      else if (value.length > 0) {
        this.#rest = value;
        return true;
      }
    }
    return false;
  }
}

function wrongSize(message: string): BuildError {
  return new BuildError(message, { code: Code.dataLoss });
}
