import { isUtf8 } from 'node:buffer';

/**
 * Text of a file that need not be UTF-8. A byte that belongs to no character becomes half a surrogate pair
 * (U+DC80 to U+DCFF), which no valid text has, so that nothing is lost: `encodeText` gives it back, and a
 * step that would carry such a byte is refused (`LLB` texts are UTF-8).
 */
export function decodeText(data: Uint8Array): string {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (isUtf8(bytes)) return bytes.toString();
  return bytes.toString('latin1').replace(PARTS, (part) => {
    const code = part.charCodeAt(0);
    const isBroken = part.length === 1 && code > LAST_ASCII;
    return isBroken ? String.fromCharCode(BROKEN + code) : Buffer.from(part, 'latin1').toString();
  });
}

/**
 * Whether a file may give texts that are none: it holds such bytes, or longer characters, which some instructions take
 * apart at a byte, or escapes of them in an address.
 */
export function mayHoldBytes(text: string): boolean {
  return !ASCII.test(text) || /%[89a-f]/i.test(text);
}

export function encodeText(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text);
  const parts = text.split(/([\udc80-\udcff])/u).map((part, index) => {
    const isBroken = index % 2 === 1;
    return isBroken ? Buffer.of(part.charCodeAt(0) - BROKEN) : Buffer.from(part);
  });
  return Buffer.concat(parts);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are bytes
const ASCII = /^[\x00-\x7f]*$/;
const LAST_ASCII = 0x7f;
const BROKEN = 0xdc00;
/** Runs of ASCII, runs of longer characters, and single bytes that are neither. */
const PARTS =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are bytes
  /[\x00-\x7f]+|(?:[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+|[\x80-\xff]/g;
