const MAX_FIELD_NUMBER = 2 ** 29 - 1;

/**
 * Walks the fields of a message without looking into them. The generated decoders end at a tag that is none and return
 * what they have by then, so that a damaged message would count as a short one.
 * @param visit told of each field: its tag (number and wire type, as they stand on the wire), and where its value is;
 * of a field with a length, what comes behind that
 * @throws RangeError for what is no sequence of fields (groups, which no message of ours has, included)
 */
export function walkFields(
  bytes: Uint8Array,
  visit?: (tag: number, start: number, end: number) => void,
): void {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; scale < 2 ** 70; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new RangeError('truncated varint');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new RangeError('oversized varint');
  };
  while (at < bytes.byteLength) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    if (number < 1 || number > MAX_FIELD_NUMBER) throw new RangeError(`invalid field number ${number}`);
    const wireType = tag % 8;
    const length = wireType === 2 ? varint() : 0;
    const start = at;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 2) at += length;
    else if (wireType === 5) at += 4;
    else throw new RangeError(`invalid wire type ${wireType}`);
    if (at > bytes.byteLength) throw new RangeError('truncated field');
    visit?.(tag, start, at);
  }
}
