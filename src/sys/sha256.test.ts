import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Sha256 } from './sha256.ts';

const wanted = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

test('pieces of any size, here and aside, several at once', async () => {
  const data = Buffer.from(Uint8Array.from({ length: 1_000_003 }, (_, i) => (i * 31) ^ (i >> 9)));
  const hashes = await Promise.all(
    [1, 63, 64, 65, 65_536, 65_537, 300_000, 1_000_003].map(async (size) => {
      const hash = new Sha256();
      // A byte at a time only for the beginning.
      const until = size === 1 ? 1000 : data.length;
      for (let at = 0, i = 0; at < until; at += size, i++) {
        const piece = data.subarray(at, Math.min(at + size, until));
        if (i % 3 === 2) hash.update(piece);
        else await hash.updateAside(piece);
      }
      if (size === 1) hash.update(data.subarray(1000));
      return hash.digest();
    }),
  );
  assert.deepEqual(new Set(hashes), new Set([wanted(data)]));
  assert.equal(new Sha256().digest(), wanted(Buffer.alloc(0)));
});

test('large data is hashed while this thread does something else', async () => {
  const data = Buffer.alloc(32 << 20, 7);
  const hash = new Sha256();
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await hash.updateAside(data);
  clearInterval(timer);
  assert.equal(hash.digest(), wanted(data));
  assert.ok(turns > 3, `${turns} turns of the event loop`);
});
