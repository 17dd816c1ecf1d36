import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatusResponse } from '../../pb/control.ts';
import { decodeFrames, encodeFrames } from './log-frames.ts';

const responses = ['a', 'b'.repeat(300), '', 'c'].map((text) =>
  StatusResponse.create({ logs: [{ vertex: 'v', stream: 1n, msg: Buffer.from(text) }] }),
);
const bytes = encodeFrames(responses);

async function* pieces(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

async function texts(data: Uint8Array, size: number): Promise<string[]> {
  const found: string[] = [];
  for await (const { response } of decodeFrames(pieces(data, size)))
    found.push(Buffer.from(response.logs[0]!.msg).toString());
  return found;
}

test('messages come back whole, whatever the pieces they are read in', async () => {
  assert.equal(bytes.readUInt32LE(0), StatusResponse.encode(responses[0]!).finish().length);
  for (const size of [1, 3, 4, 5, 100, 307, bytes.length])
    assert.deepEqual(await texts(bytes, size), ['a', 'b'.repeat(300), '', 'c']);
});

test('bytes that end within a message, or are none, are damage', async () => {
  await assert.rejects(texts(bytes.subarray(0, bytes.length - 1), 64), /ends within a message/);
  await assert.rejects(texts(Buffer.from('ffffffff00', 'hex'), 64), /a message of 4294967299 bytes/);
  await assert.rejects(texts(Buffer.from('01000000ff', 'hex'), 64), /the log of the build is damaged/);
});
