import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BytesMessage } from '../pb/control.ts';
import { bytesCodec } from './bytes-message.ts';

const LENGTHS = [0, 1, 127, 128, 4095, 4096, 16383, 16384, 70_000, 2_100_000];

test('the codec agrees with the generated one, and copies no large data', () => {
  for (const length of LENGTHS) {
    const data = Buffer.alloc(length, 7);
    const theirs = Buffer.from(BytesMessage.encode({ data }).finish());
    assert.deepEqual(Buffer.from(bytesCodec.encode({ data }).finish()), theirs);
    const parts = bytesCodec.encodeParts!({ data }, 5);
    assert.deepEqual(Buffer.concat(parts).subarray(5), theirs);
    assert.equal(parts[1], length < 4096 ? undefined : data);
    const back = bytesCodec.decode(theirs).data;
    assert.ok(Buffer.from(back).equals(data));
    if (length > 0) assert.equal(back.buffer, theirs.buffer);
  }
});

test('data in several parts is one field, and no part is copied but a small first one', () => {
  for (const length of LENGTHS) {
    const data = Buffer.alloc(length, 7);
    const more = [Buffer.from([1, 2]), Buffer.alloc(5000, 3)];
    const theirs = Buffer.from(BytesMessage.encode({ data: Buffer.concat([data, ...more]) }).finish());
    assert.deepEqual(Buffer.from(bytesCodec.encode({ data, more }).finish()), theirs);
    const parts = bytesCodec.encodeParts!({ data, more }, 5);
    assert.deepEqual(Buffer.concat(parts).subarray(5), theirs);
    assert.deepEqual(parts.slice(-2), more);
    assert.equal(parts.at(-1), more[1]);
  }
});

test('unknown fields are skipped, the last data counts, and what is cut short is refused', () => {
  const field = (tag: number, ...bytes: number[]): number[] => [tag, ...bytes];
  const bytes = Buffer.from([
    ...field(0x0a, 1, 1),
    ...field(0x10, 0xff, 1),
    ...field(0x1a, 2, 0, 0),
    ...field(0x25, 0, 0, 0, 0),
    ...field(0x29, 0, 0, 0, 0, 0, 0, 0, 0),
    ...field(0x0a, 2, 8, 9),
  ]);
  assert.deepEqual([...bytesCodec.decode(bytes).data], [8, 9]);
  assert.deepEqual([...BytesMessage.decode(bytes).data], [8, 9]);
  for (const bad of [[0x0a], [0x0a, 2, 1], [0x0a, 0xff, 0xff], [0x25, 0], [0x0b, 0], Array(12).fill(0xff)])
    assert.throws(() => bytesCodec.decode(Buffer.from(bad)), RangeError);
});
