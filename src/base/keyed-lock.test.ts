import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyedLock } from './keyed-lock.ts';

test('one holder a name, in order; other names do not wait', async () => {
  const lock = new KeyedLock();
  const order: string[] = [];
  const first = await lock.acquire('a');
  const second = lock.acquire('a').then((held) => {
    order.push('second');
    return held;
  });
  using _other = await lock.acquire('b');
  order.push('other');
  const abort = new AbortController();
  const third = lock.acquire('a', abort.signal);
  abort.abort(new Error('gone'));
  await assert.rejects(third, /gone/);
  order.push('first done');
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  (await second)[Symbol.dispose]();
  assert.deepEqual(order, ['other', 'first done', 'second']);
  using _again = await lock.acquire('a');
});
