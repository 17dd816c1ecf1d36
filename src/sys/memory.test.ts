import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { Script } from 'node:vm';
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

test('compiled code that is kept after memory was given back is taken by a program that starts', async () => {
  await trimMemory();
  const source = '(function () { return 1; })';
  const kept = new Script(source).createCachedData().toString('base64');
  const check = `const cachedData = Buffer.from(${JSON.stringify(kept)}, 'base64');
    console.log(new (require('node:vm').Script)(${JSON.stringify(source)}, { cachedData }).cachedDataRejected)`;
  assert.equal(execFileSync(process.execPath, ['-e', check], { encoding: 'utf8' }), 'false\n');
});
