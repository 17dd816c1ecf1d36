import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { constants, gunzipSync } from 'node:zlib';
import { FOOTER_BYTES, parseFooter, TOC_NAME } from '../oci/estargz.ts';
import { BLOCK_BYTES, parseTarBlock } from './tar-header.ts';

/** Compressed bytes that hold the first header of the table's archive, at least. */
const PEEK_BYTES = 4096;

/**
 * Where the table of contents of an eStargz blob file begins: what is before it is the layer's archive. undefined
 * for any other file, also for one whose footer points to something else.
 */
export function findToc(path: string): number | undefined {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const tail = readAt(fd, Math.max(0, size - FOOTER_BYTES), FOOTER_BYTES);
    const offset = parseFooter(tail);
    if (offset === undefined || offset >= size) return undefined;
    return isToc(readAt(fd, offset, PEEK_BYTES)) ? offset : undefined;
  } finally {
    closeSync(fd);
  }
}

function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(fd, bytes, 0, length, position));
}

/** Whether these first bytes of a gzip member unpack to an archive that begins with the table. */
function isToc(start: Buffer): boolean {
  try {
    // All that is there, without its end.
    const block = gunzipSync(start, { finishFlush: constants.Z_SYNC_FLUSH });
    return block.length >= BLOCK_BYTES && parseTarBlock(block.subarray(0, BLOCK_BYTES)).name === TOC_NAME;
  } catch {
    return false; // not gzip, or no archive: the footer lies
  }
}
