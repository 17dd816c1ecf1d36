import { createHash } from 'node:crypto';
import { parseFooter, TOC_NAME } from '../oci/estargz.ts';
import type { BlobContent } from './check.ts';
import { decompressed, partsOf } from './measured.ts';

/** Of the one file in the table's archive: its name comes first, its size in octal digits. */
const HEADER_BYTES = 512;
const SIZE_AT = 124;
const SIZE_DIGITS = 11;

/**
 * Digest of the table of contents of an estargz blob; undefined when it has none.
 * @param tail the last bytes of the blob, at least 51
 */
export async function tocDigest(content: BlobContent, tail: Uint8Array): Promise<string | undefined> {
  const offset = parseFooter(tail);
  if (offset === undefined) return undefined;
  const hash = createHash('sha256');
  let head = Buffer.alloc(0);
  let left = 0;
  try {
    for await (const piece of decompressed(from(content, offset), 'gzip')) {
      let data = piece;
      if (head.length < HEADER_BYTES) {
        head = Buffer.concat([head, piece]);
        if (head.length < HEADER_BYTES) continue;
        if (head.toString('latin1', 0, TOC_NAME.length + 1) !== `${TOC_NAME}\0`) return undefined;
        left = Number.parseInt(head.toString('latin1', SIZE_AT, SIZE_AT + SIZE_DIGITS), 8);
        data = head.subarray(HEADER_BYTES);
      }
      hash.update(data.subarray(0, left));
      left -= Math.min(left, data.length);
    }
  } catch {
    return undefined; // the blob was read once before: it is what lies there that is no table
  }
  return head.length >= HEADER_BYTES && left === 0 ? `sha256:${hash.digest('hex')}` : undefined;
}

/** The bytes from `offset` on. */
async function* from(content: BlobContent, offset: number): AsyncGenerator<Uint8Array> {
  let left = offset;
  for await (const part of partsOf(content)) {
    if (left < part.length) yield part.subarray(left);
    left = Math.max(0, left - part.length);
  }
}
