import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pacer } from './pacer.ts';

function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test('others get their turn between slices', async () => {
  const pacer = new Pacer();
  let turns = 0;
  let running = true;
  const other = (async () => {
    while (running) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
  })();
  for (let i = 0; i < 10; i++) {
    work(5);
    await pacer.turn();
  }
  running = false;
  await other;
  assert.ok(turns >= 10, String(turns));
});

test('the work rests while others are busy, and goes on at full speed when they are not', async () => {
  let busy = true;
  const pacer = new Pacer(() => busy);
  const start = performance.now();
  for (let i = 0; i < 3; i++) {
    work(5);
    await pacer.turn();
  }
  assert.ok(performance.now() - start >= 70, 'four fifths of the time are for others');
  busy = false;
  await assert.rejects(async () => {
    work(5);
    await pacer.turn(AbortSignal.abort(new Error('enough')));
  }, /enough/);
});
