import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { SendOptions } from './sender.ts';
import { sendSideBySide } from './side-by-side.ts';
import type { TreeSource } from './source.ts';

const part = (): TreeSource => ({ entries: () => [], read: () => [] });

/** Parts whose sending the test steers; `log` has what happened in order. */
function fixture(count: number, signal = new AbortController().signal) {
  const log: string[] = [];
  const parts = Array.from({ length: count }, part);
  const open = new Map<
    number,
    { options: SendOptions & { signal: AbortSignal }; end: PromiseWithResolvers<void> }
  >();
  const sent = sendSideBySide(
    parts,
    async (one, options) => {
      const index = parts.indexOf(one);
      const end = Promise.withResolvers<void>();
      log.push(`begin ${index}`);
      open.set(index, { options, end });
      await Promise.race([end.promise, aborted(options.signal)]);
      await options.beforeEnd;
      log.push(`end ${index}`);
    },
    { signal },
  );
  sent.catch(() => {});
  return { log, open, sent };
}

async function aborted(signal: AbortSignal): Promise<never> {
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  throw signal.reason;
}

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await nextTurn();
}

test('a later part begins first and ends last', async () => {
  const { log, open, sent } = fixture(3);
  await turns();
  assert.deepEqual(log, ['begin 2']);
  open.get(2)!.options.onRequest?.();
  await turns();
  assert.deepEqual(log, ['begin 2', 'begin 1']);
  open.get(2)!.end.resolve();
  open.get(1)!.options.onRequest?.();
  await turns();
  open.get(1)!.end.resolve();
  await turns();
  assert.deepEqual(log, ['begin 2', 'begin 1', 'begin 0']);
  open.get(0)!.end.resolve();
  await sent;
  assert.deepEqual(log.slice(3), ['end 0', 'end 1', 'end 2']);
});

test('a receiver that asks for nothing is not waited for', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { log, open, sent } = fixture(2);
  await turns();
  t.mock.timers.tick(29_999);
  await turns();
  assert.deepEqual(log, ['begin 1']);
  t.mock.timers.tick(1);
  await turns();
  assert.deepEqual(log, ['begin 1', 'begin 0']);
  for (const { end } of open.values()) end.resolve();
  await sent;
});

test('the first error ends all, and is thrown when they have ended', async () => {
  for (const failing of [0, 1]) {
    const { log, open, sent } = fixture(2);
    await turns();
    open.get(1)!.options.onRequest?.();
    await turns();
    open.get(failing)!.end.reject(new Error(`no room for ${failing}`));
    await assert.rejects(sent, { message: `no room for ${failing}` });
    assert.ok([...open.values()].every(({ options }) => options.signal.aborted));
    assert.deepEqual(log, ['begin 1', 'begin 0']);
  }
  const early = fixture(2);
  await turns();
  early.open.get(1)!.end.reject(new Error('at once'));
  await assert.rejects(early.sent, { message: 'at once' });
  assert.deepEqual(early.log, ['begin 1']);
});

test('a part that waits for another to end is told when that fails', async () => {
  const { open, sent } = fixture(2);
  await turns();
  const last = open.get(1)!;
  last.end.resolve();
  last.options.onRequest?.();
  await turns();
  open.get(0)!.end.reject(new Error('no room'));
  await assert.rejects(sent, { message: 'no room' });
  await assert.rejects(last.options.beforeEnd!, { message: 'no room' });
});

test('cancelling ends all', async () => {
  const cancel = new AbortController();
  const { open, sent } = fixture(2, cancel.signal);
  await turns();
  open.get(1)!.options.onRequest?.();
  await turns();
  cancel.abort(new Error('not wanted'));
  await assert.rejects(sent, { message: 'not wanted' });
});
