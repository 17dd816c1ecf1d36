import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Script } from 'node:vm';
import { limitMallocArenas, trimMemory } from './memory.ts';

const SOURCE = '(function () { return 1; })';
/** With the flags of a program that has just started. */
const KEPT = new Script(SOURCE).createCachedData();

test('the allocator takes its setting, and memory is given back', async () => {
  assert.equal(limitMallocArenas(2), true);
  let lists: unknown[] = Array.from({ length: 100 }, () => Array.from({ length: 10_000 }, (_, i) => ({ i })));
  const before = process.memoryUsage().heapUsed;
  lists = [];
  assert.equal(await trimMemory(), true);
  const freed = before - process.memoryUsage().heapUsed;
  assert.ok(freed > 10 << 20, `${freed} bytes, ${lists.length}`);
});

test('compiled code that was kept is still taken after memory was given back', async () => {
  await trimMemory();
  assert.equal(new Script(SOURCE, { cachedData: KEPT }).cachedDataRejected, false);
});
