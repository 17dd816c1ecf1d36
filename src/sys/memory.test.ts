import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitMallocArenas, trimMemory } from './memory.ts';

test('the allocator takes its setting, and memory is given back', async () => {
  assert.equal(limitMallocArenas(2), true);
  let lists: unknown[] = Array.from({ length: 100 }, () => Array.from({ length: 10_000 }, (_, i) => ({ i })));
  const before = process.memoryUsage().heapUsed;
  lists = [];
  assert.equal(await trimMemory(), true);
  const freed = before - process.memoryUsage().heapUsed;
  assert.ok(freed > 10 << 20, `${freed} bytes, ${lists.length}`);
});
