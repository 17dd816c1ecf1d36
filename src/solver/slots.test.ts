import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Slots } from './slots.ts';
import type { StepOwner } from './types.ts';

const never = new AbortController().signal;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Steps that hold a place until told to end. */
class Steps {
  readonly slots: Slots;
  readonly started: string[] = [];
  readonly #open: { readonly name: string; readonly slot: Disposable }[] = [];

  constructor(places: number) {
    this.slots = new Slots(places);
  }

  start(name: string, owners: readonly StepOwner[], signal = never): Promise<void> {
    return this.slots.acquire({ name, owners: () => owners }, signal).then((slot) => {
      this.started.push(name);
      this.#open.push({ name, slot });
    });
  }

  /** Ends the step that runs longest. */
  async end(): Promise<void> {
    this.#open.shift()?.slot[Symbol.dispose]();
    await turn();
  }
}

test('a build with one step does not wait for the hundred of another', async () => {
  const steps = new Steps(4);
  const all = Array.from({ length: 100 }, (_, i) => steps.start(`big ${i}`, [{ id: 'big' }]));
  await turn();
  assert.deepEqual(steps.started, ['big 0', 'big 1', 'big 2', 'big 3']);
  const small = steps.start('small', [{ id: 'small' }]);
  await steps.end();
  await small;
  assert.equal(steps.started[4], 'small');
  while (steps.started.length < 101) await steps.end();
  await Promise.all(all);
  assert.deepEqual(
    steps.started.filter((name) => name !== 'small'),
    Array.from({ length: 100 }, (_, i) => `big ${i}`),
    'in order of arrival',
  );
});

test('builds with the same number of running steps take turns', async () => {
  const steps = new Steps(1);
  for (const job of ['a', 'b', 'c'])
    for (let i = 0; i < 3; i++) void steps.start(`${job}${i}`, [{ id: job }]);
  await turn();
  for (let i = 0; i < 9; i++) await steps.end();
  assert.deepEqual(steps.started, ['a0', 'b0', 'c0', 'a1', 'b1', 'c1', 'a2', 'b2', 'c2']);
});

test('a build keeps to its own limit, also when there are places; others take them', async () => {
  const steps = new Steps(0);
  for (let i = 0; i < 4; i++) void steps.start(`narrow ${i}`, [{ id: 'narrow', maxParallelism: 2 }]);
  void steps.start('wide', [{ id: 'wide' }]);
  void steps.start('shared', [{ id: 'narrow', maxParallelism: 2 }, { id: 'wide' }]);
  await turn();
  assert.deepEqual(steps.started, ['narrow 0', 'narrow 1', 'wide', 'shared']);
  assert.deepEqual(
    steps.slots.state.running.map(({ name, job }) => [name, job]),
    [
      ['narrow 0', 'narrow'],
      ['narrow 1', 'narrow'],
      ['wide', 'wide'],
      ['shared', 'wide'],
    ],
  );
  assert.deepEqual(
    steps.slots.state.waiting.map(({ name, jobs }) => [name, jobs]),
    [
      ['narrow 2', ['narrow']],
      ['narrow 3', ['narrow']],
    ],
  );
  await steps.end();
  assert.equal(steps.started.at(-1), 'narrow 2');
});

test('one that gives up leaves the queue, and takes no place', async () => {
  const steps = new Steps(1);
  const abort = new AbortController();
  void steps.start('first', [{ id: 'a' }]);
  const lost = assert.rejects(steps.start('lost', [{ id: 'b' }], abort.signal), /gone/);
  void steps.start('last', [{ id: 'c' }]);
  abort.abort(new Error('gone'));
  await lost;
  await steps.end();
  assert.deepEqual(steps.started, ['first', 'last']);
  await steps.end();
  assert.deepEqual(steps.slots.state, { limit: 1, running: [], waiting: [] });
  await assert.rejects(steps.start('late', [{ id: 'a' }], abort.signal), /gone/);
});

test('the state tells the order of turns: fair ones first, those at a limit of their own last', async () => {
  const steps = new Steps(2);
  for (const [name, job] of [
    ['a0', 'a'],
    ['b0', 'b'],
    ['a1', 'a'],
    ['a2', 'a'],
    ['c1', 'c'],
    ['b1', 'b'],
  ] as const)
    void steps.start(name, [{ id: job }]);
  void steps.start('narrow', [{ id: 'b', maxParallelism: 1 }]);
  await turn();
  const order = steps.slots.state.waiting.map(({ name }) => name);
  assert.deepEqual(order, ['c1', 'a1', 'b1', 'a2', 'narrow']);
});
