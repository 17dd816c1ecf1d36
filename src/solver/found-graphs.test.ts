// Steps that solve another graph while they run.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertNoneAlive, type Step, step, vertexOf, world } from '../testing/solver.ts';

test.afterEach(assertNoneAlive);

const edge = (root: Step) => ({ vertex: vertexOf(root), index: 0 });
const none = { sessions: [] };

test('a step is the result of a graph it finds; both are shown, and found again', async () => {
  const { solver, build } = world();
  const inner = step({ name: 'inner', value: 'made', inputs: [step({ name: 'base' })] });
  const outer = () => step({ name: 'outer', inputs: [step({ name: 'definition' })], found: () => inner });
  const job = solver.createJob('j', none);
  const solved = await job.solve(edge(outer()));
  assert.equal(solved.value?.value, 'made');
  await solved.value?.release();
  await job.close();
  const names = new Set<string>();
  for await (const { vertexes } of job.status(new AbortController().signal))
    for (const { name } of vertexes) names.add(name);
  assert.deepEqual([...names].sort(), ['base', 'definition', 'inner', 'outer']);
  assert.equal(await build(outer()), 'made');
  assert.equal(await build(step({ name: 'other', found: () => inner })), 'made');
  assert.deepEqual(inner.counts, { map: 2, exec: 1 });
  assert.deepEqual(solver.dump(), []);
});

test('graphs are found in found graphs, and their errors come through', async () => {
  const { build } = world();
  const deep = step({ name: 'deep', value: 'deep' });
  const middle = step({ name: 'middle', found: () => deep });
  assert.equal(await build(step({ name: 'top', found: () => middle })), 'deep');
  const broken = step({ name: 'broken', beforeExec: () => Promise.reject(new Error('boom')) });
  await assert.rejects(build(step({ name: 'outer', found: () => broken })), /boom/);
});

test('a graph that waits for the step that found it is refused, by any way', async () => {
  const { solver, build } = world();
  const self: Step = step({ name: 'self', found: () => step({ name: 'on top', inputs: [self] }) });
  await assert.rejects(build(self, undefined, solver), /step self waits for itself/);
  const one: Step = step({ name: 'one', found: () => two });
  const two: Step = step({ name: 'two', found: () => step({ name: 'three', inputs: [one] }) });
  await assert.rejects(build(one, undefined, solver), /waits for itself/);
  // Another vertex of the same identity would follow the one that runs.
  const twin: Step = step({
    name: 'twin a',
    seed: 'same',
    found: () => step({ name: 'twin b', seed: 'same' }),
  });
  await assert.rejects(build(twin, undefined, solver), /waits for itself/);
  assert.deepEqual(solver.dump(), []);
});

test('a cancel ends the found graph; a second job keeps it running', async () => {
  const { solver } = world();
  let aborted = 0;
  const started = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const inner = step({
    name: 'inner',
    value: 'late',
    beforeExec: ({ signal }) => {
      started.resolve();
      signal.addEventListener('abort', () => aborted++);
      return Promise.race([
        go.promise,
        new Promise<void>((_, fail) => signal.addEventListener('abort', () => fail(signal.reason))),
      ]);
    },
  });
  const outer = edge(step({ name: 'outer', found: () => inner }));
  const first = solver.createJob('first', none);
  const lost = first.solve(outer);
  await started.promise;
  const second = solver.createJob('second', none);
  const kept = second.solve(outer);
  await first.close();
  await assert.rejects(lost, /canceled/);
  await sleep(5);
  assert.equal(aborted, 0);
  go.resolve();
  const { value } = await kept;
  assert.equal(value?.value, 'late');
  await value?.release();
  await second.close();
  assert.equal(inner.counts.exec, 1);
  assert.deepEqual(solver.dump(), []);
});

test('a cancel without others stops the found graph', async () => {
  const { solver } = world();
  const started = Promise.withResolvers<void>();
  const stopped = Promise.withResolvers<void>();
  const inner = step({
    name: 'inner',
    beforeExec: ({ signal }) => {
      started.resolve();
      return new Promise((_, fail) =>
        signal.addEventListener('abort', () => {
          stopped.resolve();
          fail(signal.reason);
        }),
      );
    },
  });
  const job = solver.createJob('j', none);
  const abort = new AbortController();
  const waits = job.solve(edge(step({ name: 'outer', found: () => inner })), abort.signal);
  await started.promise;
  abort.abort();
  await assert.rejects(waits, /canceled/);
  await stopped.promise;
  await job.close();
  assert.ok(await solver.idle(1000));
  assert.deepEqual(solver.dump(), []);
});
