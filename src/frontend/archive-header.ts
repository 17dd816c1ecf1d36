const MAGICS: readonly (readonly number[])[] = [
  [0x42, 0x5a, 0x68], // bzip2
  [0x1f, 0x8b, 0x08], // gzip
  [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], // xz
];
const BLOCK_BYTES = 512;
const CHECKSUM_START = 148;
const CHECKSUM_END = 156;
const TYPE_OFFSET = 156;
/** Entries that only describe the next one, which the probe does not hold. */
const PREFIX_TYPES = 'xLK';

/** Whether the first bytes of a file are those of a tar archive, compressed or not. */
export function isArchive(head: Uint8Array): boolean {
  if (MAGICS.some((magic) => magic.every((byte, i) => head[i] === byte))) return true;
  return isTarHeader(head);
}

function isTarHeader(head: Uint8Array): boolean {
  if (head.length < BLOCK_BYTES) return false;
  const block = head.subarray(0, BLOCK_BYTES);
  if (block.every((byte) => byte === 0)) return false;
  const written = Buffer.from(block.subarray(CHECKSUM_START, CHECKSUM_END)).toString('latin1');
  const expected = /^[\0 ]*([0-7]+)[\0 ]*$/.exec(written)?.[1];
  if (expected === undefined) return false;
  let sum = 0;
  block.forEach((byte, i) => {
    sum += i >= CHECKSUM_START && i < CHECKSUM_END ? 0x20 : byte;
  });
  return (
    sum === Number.parseInt(expected, 8) && !PREFIX_TYPES.includes(String.fromCharCode(block[TYPE_OFFSET]!))
  );
}
