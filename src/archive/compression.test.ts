import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import {
  type BlobCompression,
  checkLevel,
  createCompressor,
  detectCompression,
  readBlob,
} from './compression.ts';

const dir = mkdtempSync(join(tmpdir(), 'compression-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function sample(bytes: number): Buffer {
  const out = Buffer.alloc(bytes);
  let seed = 5;
  for (let i = 0; i < bytes; i++) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    out[i] = (seed >>> 16) % (i % 4096 < 2048 ? 4 : 200);
  }
  return out;
}

async function compress(
  kind: BlobCompression,
  data: Buffer,
  level?: number,
  step = 256 * 1024,
): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  const compressor = createCompressor(kind, level, (bytes) => pieces.push(Buffer.from(bytes)));
  for (let at = 0; at < data.length; at += step) await compressor.push(data.subarray(at, at + step));
  await compressor.finish();
  return Buffer.concat(pieces);
}

async function read(bytes: Buffer): Promise<Buffer> {
  const path = join(dir, 'blob');
  writeFileSync(path, bytes);
  const pieces: Buffer[] = [];
  for await (const chunk of readBlob(path)) pieces.push(Buffer.from(chunk));
  return Buffer.concat(pieces);
}

test('what is compressed comes back, by Node and by gzip', async () => {
  for (const size of [0, 1, 1000, 256 * 1024, 3_000_001, 9_000_000]) {
    const data = sample(size);
    const gzip = await compress('gzip', data);
    assert.ok(gunzipSync(gzip).equals(data), `gzip ${size}`);
    assert.equal(spawnSync('gzip', ['-t'], { input: gzip }).status, 0);
    assert.deepEqual([...gzip.subarray(0, 10)], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    const zstd = await compress('zstd', data);
    assert.ok(zstdDecompressSync(zstd).equals(data), `zstd ${size}`);
    for (const blob of [gzip, zstd, await compress('uncompressed', data)])
      assert.ok((await read(blob)).equals(data));
  }
});

test('output does not depend on timing', async () => {
  const data = sample(2_000_000);
  const all = await Promise.all(Array.from({ length: 6 }, () => compress('gzip', data, 6)));
  for (const one of all) assert.ok(one.equals(all[0]!));
  assert.ok(all[0]!.length < gzipSync(data, { level: 6 }).length * 1.02);
  assert.ok((await compress('gzip', data, 0)).length > data.length);
});

test('detection', () => {
  assert.equal(detectCompression(gzipSync('x')), 'gzip');
  assert.equal(detectCompression(zstdCompressSync('x')), 'zstd');
  assert.equal(detectCompression(new Uint8Array(0)), 'uncompressed');
  assert.equal(detectCompression(Buffer.from('abcdef')), 'uncompressed');
  assert.throws(() => checkLevel('gzip', 10), /invalid compression level 10 for gzip/);
  assert.throws(() => checkLevel('zstd', 23));
});

test('several members, and damaged input', async () => {
  const data = sample(10_000);
  assert.ok(
    (await read(Buffer.concat([gzipSync(data), gzipSync(data)]))).equals(Buffer.concat([data, data])),
  );
  assert.ok(
    (await read(Buffer.concat([zstdCompressSync(data), zstdCompressSync(data)]))).equals(
      Buffer.concat([data, data]),
    ),
  );
  await assert.rejects(read(gzipSync(data).subarray(0, 500)));
  const broken = gzipSync(data);
  broken[200]! ^= 0xff;
  await assert.rejects(read(broken));
  await assert.rejects(read(zstdCompressSync(data).subarray(0, 500)));
});
