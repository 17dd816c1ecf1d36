import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Digest } from '../../base/digest.ts';
import type { SolveStatus } from '../types.ts';
import { ProgressQueue } from './progress-queue.ts';

const vertex = `sha256:${'1'.repeat(64)}` as Digest;

function status(name: string, log = ''): SolveStatus {
  return {
    vertexes: [{ digest: vertex, inputs: [], name, cached: false, error: '' }],
    statuses: [],
    logs: log === '' ? [] : [{ vertex, stream: 1, timestamp: 0n, data: Buffer.from(log) }],
    warnings: [],
  };
}

const names = (all: readonly SolveStatus[]): string[] =>
  all.flatMap(({ vertexes }) => vertexes).map(({ name }) => name);

test('what was pushed before, while and after reading begins is read in order', async () => {
  const queue = new ProgressQueue();
  queue.push(status('1'));
  const all = Array.fromAsync(queue);
  await turn();
  queue.push(status('2'));
  queue.push(status('3'));
  await turn();
  queue.end();
  queue.push(status('late'));
  assert.deepEqual(names(await all), ['1', '2', '3']);
});

test('what nobody reads is kept as the latest states, without logs', async () => {
  const queue = new ProgressQueue();
  for (let n = 0; n < 2500; n++) queue.push(status(`${n}`, 'x'));
  queue.end();
  const all = await Array.fromAsync(queue);
  assert.equal(all.length, 1001);
  assert.deepEqual(names(all.slice(0, 2)), ['1499', '1500']);
  assert.equal(all[0]?.logs.length, 0);
  assert.equal(all[1]?.logs.length, 1);
});

test('large logs are not kept for nobody', async () => {
  const queue = new ProgressQueue();
  for (let n = 0; n < 30; n++) queue.push(status(`${n}`, 'x'.repeat(1 << 20)));
  queue.end();
  const all = await Array.fromAsync(queue);
  assert.equal(all.flatMap(({ logs }) => logs).length, 16);
});

test('it is read once; a reader who leaves early keeps nothing alive', async () => {
  const queue = new ProgressQueue();
  queue.push(status('1'));
  for await (const _ of queue) break;
  queue.push(status('2'));
  await assert.rejects(Array.fromAsync(queue), /can be read once/);
});
