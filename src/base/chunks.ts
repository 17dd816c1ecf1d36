/** Of one chunk. */
export const CHUNK_BYTES = 256 << 10;
/** Chunks that are kept for the next one who wants some. */
const MAX_KEPT = 16;

const kept: ArrayBuffer[] = [];
const ours = new WeakSet<ArrayBufferLike>();

/** A chunk of memory of unknown content; it is the taker's, who may give it back or forget it. */
export function takeChunk(): Buffer {
  const known = kept.pop();
  if (known) return Buffer.from(known);
  const fresh = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  ours.add(fresh.buffer);
  return fresh;
}

/**
 * Says that nobody will look at `data` again, nor at anything else in its memory. Memory that was just used costs
 * nothing to write to, while the system first has to clear what is new. What is not from here is left alone.
 */
export function giveBackChunk(data: Uint8Array): void {
  const { buffer } = data;
  if (kept.length < MAX_KEPT && ours.has(buffer) && !kept.includes(buffer as ArrayBuffer))
    kept.push(buffer as ArrayBuffer);
}
