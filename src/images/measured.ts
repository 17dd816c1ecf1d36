import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { BlobContent } from './check.ts';

/** Last bytes that are kept: more than any footer has. */
const TAIL_BYTES = 64;

/** Counts and hashes what is read through it. */
export class Measured {
  size = 0;
  /** The source threw. */
  failed = false;
  readonly #content: BlobContent;
  readonly #hash = createHash('sha256');
  #tail = Buffer.alloc(0);

  constructor(content: BlobContent) {
    this.#content = content;
  }

  async *read(): AsyncGenerator<Uint8Array> {
    try {
      for await (const part of partsOf(this.#content)) {
        this.size += part.length;
        this.#hash.update(part);
        this.#tail = Buffer.concat([this.#tail, part.subarray(-TAIL_BYTES)]).subarray(-TAIL_BYTES);
        yield part;
      }
    } catch (error) {
      this.failed = true;
      throw error;
    }
  }

  digest(): string {
    return `sha256:${this.#hash.digest('hex')}`;
  }

  /** The last 64 bytes, or all of fewer. */
  tail(): Uint8Array {
    return this.#tail;
  }
}

export function partsOf(content: BlobContent): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  return content instanceof Uint8Array ? [content] : content;
}

export function decompressed(
  content: AsyncIterable<Uint8Array>,
  compression: 'uncompressed' | 'gzip' | 'zstd',
): AsyncIterable<Uint8Array> {
  if (compression === 'uncompressed') return content;
  const source = Readable.from(content, { objectMode: false });
  const unpacking = compression === 'gzip' ? createGunzip() : createZstdDecompress();
  source.on('error', (error) => unpacking.destroy(error));
  return source.pipe(unpacking);
}
