import type { Semaphore } from '../../base/semaphore.ts';
import { together } from '../../cache/together.ts';
import { bytesBody, type HttpBody } from '../../registry/http.ts';
import type { Blob } from './service.ts';

/** One request of an upload. Azure takes 50,000 of them for a blob: 1.6 TB. */
export const PART_BYTES = 32 << 20;
/** Parts that one cache sends side by side. */
export const PARALLEL_PARTS = 4;

/** A piece of a blob, in bytes. */
export interface Part {
  readonly index: number;
  readonly offset: number;
  readonly size: number;
}

/** Sends a blob piece by piece, as many at once as `slots` has room for. */
export async function inParts(
  size: number,
  partBytes: number,
  slots: Semaphore,
  send: (part: Part, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<Part[]> {
  const parts = Array.from({ length: Math.ceil(size / partBytes) }, (_, index) => {
    const offset = index * partBytes;
    return { index, offset, size: Math.min(partBytes, size - offset) };
  });
  await together(
    parts.map((part) => (one: AbortSignal) => slots.run(() => send(part, one), one)),
    signal,
  );
  return parts;
}

/** The bytes of a part, read again for each try. */
export function partBody(blob: Blob, { offset, size }: Pick<Part, 'offset' | 'size'>): HttpBody {
  return { size, open: () => firstBytes(blob.open(offset), size) };
}

async function* firstBytes(content: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  let rest = size;
  if (rest === 0) return;
  for await (const chunk of content) {
    yield chunk.subarray(0, rest);
    rest -= chunk.length;
    if (rest <= 0) return;
  }
}

/** A blob that is in memory. */
export function inMemory(data: Uint8Array): Blob {
  return {
    size: data.length,
    open: async function* (offset) {
      yield data.subarray(offset);
    },
  };
}

export function jsonBody(value: unknown): HttpBody {
  return bytesBody(Buffer.from(JSON.stringify(value)));
}
