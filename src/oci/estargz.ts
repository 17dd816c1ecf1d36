/** Name of the table of contents in the archive. */
export const TOC_NAME = 'stargz.index.json';
/** Bytes of the footer: an empty gzip member with the table's place in a header field of its own. */
export const FOOTER_BYTES = 51;
/** Of an older form, where the field has no name. */
const OLD_FOOTER_BYTES = 47;
/** What the header field of the footer ends with, behind 16 hexadecimal digits. */
const MAGIC = 'STARGZ';
const PLACE_BYTES = 16 + MAGIC.length;
const FIELD_ID = 'SG';
/** gzip's fixed part of a header with a field: no name, no time, unknown system (RFC 1952). */
const HEADER = Uint8Array.of(0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255);
/** An empty stored block that is the last one, then checksum and size of nothing. */
const NOTHING = Uint8Array.of(1, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0);

/** The last bytes of an eStargz blob. @param tocOffset where the member with the table begins in the blob */
export function encodeFooter(tocOffset: number): Buffer {
  const place = Buffer.from(tocOffset.toString(16).padStart(16, '0') + MAGIC);
  const lengths = Buffer.alloc(6);
  lengths.writeUInt16LE(place.length + 4, 0);
  lengths.write(FIELD_ID, 2);
  lengths.writeUInt16LE(place.length, 4);
  return Buffer.concat([HEADER, lengths, place, NOTHING]);
}

/**
 * Where the table of contents begins; undefined when these are not the last bytes of an eStargz blob.
 * @param tail at least the last 51 bytes of the blob, or all of a shorter one
 */
export function parseFooter(tail: Uint8Array): number | undefined {
  const bytes = Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength);
  return placeIn(bytes, FOOTER_BYTES, 16) ?? placeIn(bytes, OLD_FOOTER_BYTES, 12);
}

function placeIn(tail: Buffer, size: number, fieldAt: number): number | undefined {
  if (tail.length < size) return undefined;
  const footer = tail.subarray(tail.length - size);
  if (!footer.subarray(0, 4).equals(HEADER.subarray(0, 4))) return undefined;
  if (footer.readUInt16LE(10) !== PLACE_BYTES + fieldAt - 12) return undefined;
  const named = footer.toString('latin1', 12, 14) === FIELD_ID && footer.readUInt16LE(14) === PLACE_BYTES;
  if (size === FOOTER_BYTES && !named) return undefined;
  const match = /^([0-9a-f]{16})STARGZ$/.exec(footer.toString('latin1', fieldAt, fieldAt + PLACE_BYTES));
  const offset = match ? Number.parseInt(match[1]!, 16) : Number.NaN;
  return Number.isSafeInteger(offset) ? offset : undefined;
}
