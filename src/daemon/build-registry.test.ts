import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildRegistry } from './build-registry.ts';

const never = new AbortController().signal;

test('a call may come before its build', async () => {
  const registry = new BuildRegistry<string>();
  const early = registry.get('a', never);
  using _registered = registry.register('a', 'build a');
  assert.equal(await early, 'build a');
  assert.equal(await registry.get('a', never), 'build a');
});

test('a call that is given up stops waiting; a disposed build is gone', async () => {
  const registry = new BuildRegistry<string>();
  registry.register('a', 'build a')[Symbol.dispose]();
  const abort = new AbortController();
  const waiting = registry.get('a', abort.signal);
  abort.abort(new Error('given up'));
  await assert.rejects(waiting, /given up/);
});
