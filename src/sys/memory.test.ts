import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitMallocArenas, trimMemory } from './memory.ts';

test('the allocator takes its setting, and memory is given back', () => {
  assert.equal(limitMallocArenas(2), true);
  assert.equal(trimMemory(), true);
});
