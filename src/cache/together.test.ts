import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { together } from './together.ts';

test('results come in order; the first failure stops the others and waits for them', async () => {
  const late = async (): Promise<number> => {
    await sleep(5);
    return 1;
  };
  assert.deepEqual(await together([late, async () => 2]), [1, 2]);
  let ended = false;
  const stopped = async (signal: AbortSignal): Promise<void> => {
    try {
      await sleep(10_000, undefined, { signal });
    } finally {
      await sleep(5);
      ended = true;
    }
  };
  const failing = async (): Promise<void> => {
    throw new Error('first');
  };
  await assert.rejects(together([stopped, failing]), /first/);
  assert.ok(ended);
  const abort = new AbortController();
  const waiting = together([stopped], abort.signal);
  abort.abort(new Error('given up'));
  await assert.rejects(waiting, /abort/i);
  await assert.rejects(together([late], abort.signal), /given up/);
});
