import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CONNECTION_OPTIONS } from '../transport.ts';
import { Http2Connection } from './connection.ts';
import { Flag, FRAME_HEADER_BYTES, FrameType, frame, PREFACE } from './frames.ts';

const REQUEST = [':method', 'POST', ':scheme', 'http', ':path', '/x', ':authority', 'localhost'];

/** A client of ours, and what it has sent since the last call, as frames. */
function client(): { connection: Http2Connection; frames: () => { type: number; payload: Buffer }[] } {
  const [a, peer] = duplexPair();
  const connection = new Http2Connection(a, CONNECTION_OPTIONS);
  peer.write(frame(FrameType.settings, 0, 0, Buffer.alloc(0)));
  let preface = PREFACE.length;
  let rest = Buffer.alloc(0);
  const frames = (): { type: number; payload: Buffer }[] => {
    for (let chunk: Buffer | null; (chunk = peer.read()) !== null; ) rest = Buffer.concat([rest, chunk]);
    rest = rest.subarray(preface);
    preface = 0;
    const found = [];
    while (rest.length >= FRAME_HEADER_BYTES) {
      const end = FRAME_HEADER_BYTES + rest.readUIntBE(0, 3);
      found.push({ type: rest[3] as number, payload: rest.subarray(FRAME_HEADER_BYTES, end) });
      assert.equal((rest[4] as number) & Flag.padded, 0);
      rest = rest.subarray(end);
    }
    return found;
  };
  return { connection, frames };
}

test('small messages of one turn share a frame; large ones are split where the peer says', async () => {
  const { connection, frames } = client();
  const stream = connection.open(REQUEST);
  await nextTurn();
  frames();
  const written: number[] = [];
  const sent = Array.from({ length: 100 }, (_, i) => Buffer.alloc(i === 50 ? 20_000 : 30, i));
  for (const [i, bytes] of sent.entries()) stream.write(bytes, () => written.push(i));
  assert.deepEqual(written, []);
  await nextTurn();
  const got = frames();
  assert.deepEqual(
    got.map(({ type, payload }) => [type, payload.length]),
    [
      [FrameType.data, 16_384],
      [FrameType.data, 20_000 + 99 * 30 - 16_384],
    ],
  );
  assert.ok(Buffer.concat(got.map(({ payload }) => payload)).equals(Buffer.concat(sent)));
  assert.deepEqual(
    written,
    sent.map((_, i) => i),
  );
  connection.destroy();
});

test('what was written before a reset goes out before it', async () => {
  const { connection, frames } = client();
  const stream = connection.open(REQUEST);
  await nextTurn();
  frames();
  stream.write(Buffer.from('the reason'));
  stream.reset(8);
  await nextTurn();
  assert.deepEqual(
    frames().map(({ type, payload }) => [
      type,
      type === FrameType.data ? String(payload) : payload.readUInt32BE(0),
    ]),
    [
      [FrameType.data, 'the reason'],
      [FrameType.rstStream, 8],
    ],
  );
  connection.destroy();
});
