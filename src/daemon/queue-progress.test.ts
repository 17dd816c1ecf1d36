import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SlotState } from '../solver/slots.ts';
import type { VertexProgress } from '../solver/types.ts';
import { QueueProgress } from './queue-progress.ts';

/** A build that keeps what it is told. */
class Build {
  readonly abort = new AbortController();
  readonly signal = this.abort.signal;
  readonly said: string[] = [];

  async step<T>(_digest: unknown, name: string, work: (progress: VertexProgress) => Promise<T>): Promise<T> {
    this.said.push(name);
    const log = (_stream: number, data: Uint8Array) => void this.said.push(Buffer.from(data).toString());
    const value = await work({ log } as unknown as VertexProgress);
    this.said.push('over');
    return value;
  }
}

const HEAD = '[internal] waiting for a place (max-parallelism 2)';

test('a build that has nothing but steps that wait is told where they stand, until one runs', async () => {
  const build = new Build();
  let state: SlotState = { limit: 2, running: [], waiting: [] };
  using queue = new QueueProgress(
    () => state,
    (id) => (id === 'small' ? build : undefined),
  );
  const other = { name: 'RUN other', jobs: ['big'], since: 0 };
  const running = [
    { name: 'RUN a', job: 'big' },
    { name: 'RUN b', job: 'big' },
  ];
  state = { limit: 2, running, waiting: [other, { name: 'RUN x', jobs: ['small'], since: 1000 }] };
  queue.look(3500);
  assert.deepEqual(build.said, [], 'not for a short while');
  queue.look(4000);
  assert.deepEqual(build.said, [HEAD, 'number 2 of 2 steps that wait: RUN x\n']);
  queue.look(20_000);
  state = { ...state, waiting: state.waiting.slice(1) };
  queue.look(20_500);
  queue.look(21_000);
  assert.deepEqual(build.said.slice(2), ['number 1 of 1 steps that wait: RUN x\n']);
  state = {
    ...state,
    running: [{ name: 'RUN x', job: 'small' }],
    waiting: [{ name: 'RUN y', jobs: ['small'], since: 0 }],
  };
  queue.look(22_000);
  await new Promise(setImmediate);
  assert.deepEqual(build.said.slice(3), ['over']);
});

test('what waits ends with its build', async () => {
  const build = new Build();
  let found: Build | undefined = build;
  const waiting = [{ name: 'RUN x', jobs: ['small'], since: 0 }];
  using queue = new QueueProgress(
    () => ({ limit: 2, running: [], waiting }),
    () => found,
  );
  queue.look(5000);
  build.abort.abort();
  await new Promise(setImmediate);
  assert.equal(build.said.at(-1), 'over');
  found = undefined;
  queue.look(20_000);
  queue.look(30_000);
  assert.deepEqual(
    build.said.filter((text) => text === HEAD),
    [HEAD],
  );
});
