import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { BuildError } from '../base/errors.ts';
import { assertNoneAlive, step, totals, vertexOf, world } from '../testing/solver.ts';
import type { SolveStatus } from './types.ts';

test.afterEach(assertNoneAlive);

test('a second build loads one record and runs nothing', async () => {
  const { build, results } = world();
  const graph = () => step({ name: 'top', inputs: [step({ name: 'mid', inputs: [step({ name: 'src' })] })] });
  await build(graph());
  const again = graph();
  assert.equal(await build(again), 'top');
  assert.deepEqual(totals(again), { map: 3, exec: 0 });
  assert.equal(results.loads, 1);
});

test('content makes up for a changed source; only that source runs', async () => {
  const { build, results } = world();
  const make = (second: string, value: string) =>
    step({
      name: 'top',
      value,
      content: [false, true],
      inputs: [step({ name: 'a' }), step({ name: second, value: 'same content' })],
    });
  await build(make('b', 'first'));
  const changed = make('c', 'never');
  assert.equal(await build(changed), 'first');
  assert.deepEqual(totals(changed), { map: 3, exec: 1 });
  assert.equal(results.loads, 1);
  const third = make('c', 'never');
  await build(third);
  assert.equal(totals(third).exec, 0, 'the content match left a link for the cheap question');
});

test('nothing is loaded but the result when a deep content match is not needed', async () => {
  const { build, results } = world();
  const make = () =>
    step({
      name: 'top',
      inputs: [step({ name: 'mid', selectors: ['sel'], content: [true], inputs: [step({ name: 'src' })] })],
    });
  await build(make());
  const again = make();
  await build(again);
  assert.deepEqual(totals(again), { map: 3, exec: 0 });
  assert.equal(results.loads, 1);
});

test('an op is told of every further vertex it stands for', async () => {
  const { solver, build, joined } = world();
  const gate = Promise.withResolvers<void>();
  const make = () =>
    step({ name: 'top', inputs: [step({ name: 'shared', beforeExec: () => gate.promise })] });
  const first = build(make(), undefined, solver);
  assert.deepEqual(joined, []);
  const second = build(make(), undefined, solver);
  assert.deepEqual(joined, ['shared', 'top']);
  gate.resolve();
  assert.equal(await first, await second);
});

test('two jobs share what runs; one cancel does not disturb the other', async () => {
  const { solver, build } = world();
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  const graph = step({ name: 'shared', beforeExec: () => gate });
  const abort = new AbortController();
  const first = build(graph, abort.signal, solver);
  const second = build(graph, undefined, solver);
  await sleep(5);
  abort.abort(new BuildError('context canceled', { code: 1 }));
  await assert.rejects(first, /context canceled/);
  go();
  assert.equal(await second, 'shared');
  assert.equal(graph.counts.exec, 1);
});

test('cancelling the only job aborts its op; a later build starts afresh', async () => {
  const { solver, build } = world();
  let aborted = 0;
  const graph = step({
    name: 'slow',
    beforeExec: (context) =>
      aborted > 0
        ? Promise.resolve()
        : new Promise((_, reject) =>
            context.signal.addEventListener('abort', () => {
              aborted++;
              reject(context.signal.reason);
            }),
          ),
  });
  const abort = new AbortController();
  const first = build(graph, abort.signal, solver);
  await sleep(5);
  abort.abort();
  await assert.rejects(first);
  assert.equal(await build(graph, undefined, solver), 'slow');
  assert.equal(aborted, 1);
  assert.equal(graph.counts.exec, 2);
});

test('differently spelled equal steps run once', async () => {
  const { build } = world();
  const same = (name: string) => step({ name, seed: 'same', value: '7', beforeExec: () => sleep(5) });
  const graph = step({
    name: 'sum',
    inputs: [same('x'), same('y')],
    combine: (v) => v.join('+'),
  });
  assert.equal(await build(graph), '7+7');
  assert.equal(totals(graph).exec, 2);
});

test('a broken record is a miss', async () => {
  const { build, results } = world();
  const make = () => step({ name: 'top', inputs: [step({ name: 'src' })] });
  await build(make());
  results.values.clear();
  const again = make();
  assert.equal(await build(again), 'top');
  assert.equal(totals(again).exec, 2);
});

test('ignoreCache runs again and leaves its result for others', async () => {
  const { build } = world();
  const make = (ignoreCache: boolean) => step({ name: 'top', ignoreCache, inputs: [step({ name: 'src' })] });
  await build(make(false));
  const ignoring = make(true);
  await build(ignoring);
  assert.equal(ignoring.counts.exec, 1);
  const after = make(false);
  await build(after);
  assert.equal(after.counts.exec, 0);
});

test('variants of one vertex run beside each other, and meet where their keys do', async () => {
  const { build: buildOn, solver } = world();
  const build = (root: ReturnType<typeof step>) => buildOn(root, undefined, solver);
  const make = (variant: string, mapDigest: string) => {
    const source = step({ name: 'src', variant, mapDigest, value: variant, beforeExec: () => sleep(5) });
    return step({ name: 'top', variant, inputs: [source], combine: ([value]) => `top of ${value}` });
  };
  const [old, current] = [make('old', 'sha256:old'), make('new', 'sha256:new')];
  assert.deepEqual(await Promise.all([build(old), build(current)]), ['top of old', 'top of new']);
  assert.deepEqual(solver.dump(), []);
  const [one, two] = [make('one', 'sha256:same'), make('two', 'sha256:same')];
  const [first, second] = await Promise.all([build(one), build(two)]);
  assert.equal(first, second);
  assert.equal(one.counts.exec + two.counts.exec, 1);
});

test('an error names itself once and stops the siblings', async () => {
  const { build } = world();
  let aborted = 0;
  const graph = step({
    inputs: [
      step({ beforeExec: () => sleep(2).then(() => Promise.reject(new Error('boom'))) }),
      step({
        beforeExec: (c) =>
          new Promise((_, reject) =>
            c.signal.addEventListener('abort', () => {
              aborted++;
              reject(c.signal.reason);
            }),
          ),
      }),
    ],
  });
  await assert.rejects(build(graph), /boom/);
  assert.equal(aborted, 1);
});

test('independent inputs run at the same time, also when one of them can match nothing', async () => {
  const { build } = world();
  let running = 0;
  let most = 0;
  const busy = () =>
    step({
      beforeExec: async () => {
        most = Math.max(most, ++running);
        await sleep(10);
        running--;
      },
    });
  await build(step({ inputs: [busy(), busy(), busy()], content: [true, false, true] }));
  assert.equal(most, 3);
});

test('progress: sources complete while looked up, skipped ancestors show as cached', async () => {
  const { make, build } = world();
  const graph = () => step({ name: 'top', inputs: [step({ name: 'mid', inputs: [step({ name: 'src' })] })] });
  await build(graph());
  const job = make().createJob('watched', { sessions: [] });
  const seen: SolveStatus[] = [];
  const reading = (async () => {
    for await (const status of job.status(new AbortController().signal)) seen.push(status);
  })();
  const { value } = await job.solve({ vertex: vertexOf(graph()), index: 0 });
  await value?.release();
  await job[Symbol.asyncDispose]();
  await reading;
  const finished = seen.flatMap((s) => s.vertexes).filter((v) => v.completed !== undefined);
  assert.deepEqual(
    [...new Set(finished.map((v) => v.name))],
    ['src', 'mid', 'top'],
    'inputs are shown first',
  );
  const last = new Map(seen.flatMap((s) => s.vertexes).map((v) => [v.name, v]));
  assert.deepEqual(
    ['src', 'mid', 'top'].map((n) => [last.get(n)?.cached, last.get(n)?.completed !== undefined]),
    [
      [false, true],
      [true, true],
      [true, true],
    ],
  );
});

test('10,000 steps in a chain or side by side neither overflow nor crawl', async () => {
  // In a thread of its own, where the test runner does not watch every promise.
  const worker = new Worker(new URL('../testing/solver-bench.ts', import.meta.url));
  const [times] = await once(worker, 'message');
  for (const [what, milliseconds] of Object.entries(times as Record<string, number>)) {
    assert.ok(milliseconds < 8000, `${what}: ${milliseconds} ms`);
  }
});
