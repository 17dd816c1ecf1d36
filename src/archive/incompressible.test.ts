import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { deflateRawSync, gunzipSync, inflateRawSync } from 'node:zlib';
import { createCompressor } from './compression.ts';
import { isIncompressible, segments, storedBlocks } from './incompressible.ts';

/** Bytes without any pattern, the same at every run. */
function noise(bytes: number): Buffer {
  const pieces = Array.from({ length: Math.ceil(bytes / 64) }, (_, i) =>
    createHash('sha512').update(String(i)).digest(),
  );
  return Buffer.concat(pieces).subarray(0, bytes);
}

const text = (bytes: number): Buffer =>
  Buffer.from(Array.from({ length: bytes / 16 }, (_, i) => `line ${i} of it`.padEnd(15)).join('\n')).subarray(
    0,
    bytes,
  );

test('what is compressed already is known by samples of it', () => {
  assert.equal(isIncompressible(noise(256 << 10)), true);
  const hex = Buffer.from(noise(128 << 10).toString('hex'));
  assert.equal(isIncompressible(deflateRawSync(hex).subarray(0, 64 << 10)), true);
  assert.equal(isIncompressible(text(256 << 10)), false);
  assert.equal(isIncompressible(Buffer.alloc(256 << 10)), false);
  assert.equal(isIncompressible(noise(16 << 10)), false, 'too little to bother');
  assert.equal(isIncompressible(Buffer.from(noise(192 << 10).toString('base64'))), false);
  const repeated = Buffer.concat(Array.from({ length: 256 }, () => noise(1 << 10)));
  assert.equal(isIncompressible(repeated), false, 'bytes of all values, but repeated');
  const half = Buffer.from(noise(256 << 10));
  for (let i = 0; i < half.length; i += 2) half[i] = 0;
  assert.equal(isIncompressible(half), false);
});

test('neighbours of one kind are one segment', () => {
  const data = Buffer.concat([text(512 << 10), noise(512 << 10), text(100 << 10)]);
  assert.deepEqual(segments(data), [
    { start: 0, end: 512 << 10, stored: false },
    { start: 512 << 10, end: 1024 << 10, stored: true },
    { start: 1024 << 10, end: data.length, stored: false },
  ]);
  assert.deepEqual(segments(Buffer.alloc(0)), []);
});

test('stored blocks are deflate', () => {
  for (const size of [1, 65_535, 65_536, 300_000]) {
    const data = randomBytes(size);
    const stream = Buffer.concat([...storedBlocks(data), Buffer.of(3, 0)]);
    assert.ok(inflateRawSync(stream).equals(data), `${size} bytes`);
  }
});

test('a layer of both kinds comes back, and is hardly larger than its parts', async () => {
  const parts = [text(700_000), noise(1_500_000), text(300_000), noise(40_000), text(900_000)];
  const data = Buffer.concat(parts);
  const packed = async (step: number, level?: number): Promise<Buffer> => {
    const pieces: Uint8Array[] = [];
    const compressor = createCompressor('gzip', level, (bytes) => pieces.push(Buffer.from(bytes)));
    for (let at = 0; at < data.length; at += step) await compressor.push(data.subarray(at, at + step));
    await compressor.finish();
    return Buffer.concat(pieces);
  };
  const small = parts.reduce((sum, part) => sum + deflateRawSync(part).length, 0);
  for (const level of [undefined, 1, 9]) {
    const blob = await packed(1 << 20, level);
    assert.ok(gunzipSync(blob).equals(data));
    assert.ok(blob.length < small * (level === 1 ? 1.1 : 1.02), `${blob.length} of ${small}`);
    assert.ok((await packed(1 << 20, level)).equals(blob));
  }
  assert.ok(gunzipSync(await packed(1 << 20, 0)).equals(data));
});
