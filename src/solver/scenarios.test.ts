// Counts of cache maps, runs and loads that the reference solver makes in the same situations.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../base/digest.ts';
import { assertNoneAlive, type Step, step, totals, vertexOf, world } from '../testing/solver.ts';
import { rootKey } from './keystore.ts';

test.afterEach(assertNoneAlive);

test('inputs that match by definition are looked at last for their content', async () => {
  const { build, results } = world();
  const graph = (one: string, two: string) =>
    step({
      name: 'top',
      value: 'result0',
      content: [true, true],
      inputs: [step({ name: one, value: 'result1' }), step({ name: two, value: 'result2' })],
    });
  await build(graph('one', 'two'));
  const second = graph('one', 'two changed');
  assert.equal(await build(second), 'result0');
  assert.deepEqual([totals(second), results.loads], [{ map: 3, exec: 1 }, 1]);
  const third = graph('one changed', 'two changed again');
  assert.equal(await build(third), 'result0');
  assert.deepEqual([totals(third), results.loads], [{ map: 3, exec: 2 }, 2]);
});

test('an input whose link matches is not loaded for its content while another runs', async () => {
  const { build, results } = world();
  const graph = (third: string) =>
    step({
      name: 'main',
      inputs: [
        step({
          name: 'zero',
          content: [false, true],
          inputs: [
            step({
              name: 'one',
              content: [true],
              beforeExec: () => sleep(20),
              inputs: [step({ name: third, value: 'result3' })],
            }),
            step({ name: 'two' }),
          ],
        }),
      ],
    });
  await build(graph('three'));
  const changed = graph('three changed');
  assert.equal(await build(changed), 'main');
  assert.deepEqual([totals(changed), results.loads], [{ map: 5, exec: 1 }, 1]);
});

test('another selector is another step, unless its content is the same', async () => {
  const { build, results } = world();
  const graph = (selector: string, value: string, content = false) =>
    step({
      name: 'zero',
      value,
      selectors: [selector],
      content: [content],
      inputs: [step({ name: 'one' })],
    });
  await build(graph('a', 'first'));
  const same = graph('a', 'never');
  assert.equal(await build(same), 'first');
  assert.deepEqual([totals(same), results.loads], [{ map: 2, exec: 0 }, 1]);
  const other = graph('b', 'second');
  assert.equal(await build(other), 'second');
  assert.deepEqual([totals(other), results.loads], [{ map: 2, exec: 1 }, 2]);

  const fresh = world();
  await fresh.build(graph('a', 'first', true));
  const byContent = graph('b', 'never', true);
  assert.equal(await fresh.build(byContent), 'first');
  assert.deepEqual([totals(byContent), fresh.results.loads], [{ map: 2, exec: 0 }, 2]);
});

test('ignoring the cache of an input runs its consumers again', async () => {
  const { build } = world();
  const graph = (top: boolean, input: boolean, value: string) =>
    step({
      name: 'zero',
      value,
      ignoreCache: top,
      inputs: [step({ name: 'one', ignoreCache: input })],
    });
  await build(graph(false, false, 'first'));
  const all = graph(true, true, 'second');
  assert.equal(await build(all), 'second');
  assert.deepEqual(totals(all), { map: 2, exec: 2 });
  const input = graph(false, true, 'third');
  assert.equal(await build(input), 'third');
  assert.deepEqual(totals(input), { map: 2, exec: 2 });
});

test('a step solved without cache before its consumer is asked for gives it no match either', async () => {
  const { build, solver } = world();
  const graph = (ignoreCache: boolean, value: string) =>
    step({ name: 'zero', value, inputs: [step({ name: 'one', ignoreCache })] });
  await build(graph(false, 'first'));
  const again = graph(true, 'second');
  await using job = solver.createJob('j', { sessions: [] });
  for (const [root, value] of [
    [again.inputs[0], 'one'],
    [again, 'second'],
  ] as const) {
    const solved = await job.solve({ vertex: vertexOf(root as Step), index: 0 });
    assert.equal(solved.value?.value, value);
    await solved.value?.release();
  }
});

test('content takes the cache up again behind a step that ignored it', async () => {
  const { build } = world();
  const graph = (one: string, ignoreCache: boolean, value: string) =>
    step({
      name: `zero of ${one}`,
      seed: 'zero',
      value,
      content: [true],
      inputs: [step({ name: one, value: 'result1', ignoreCache })],
    });
  await build(graph('one', false, 'first'));
  const again = graph('one changed', true, 'never');
  assert.equal(await build(again), 'first');
  assert.deepEqual(totals(again), { map: 2, exec: 1 });
});

test('who joins whom among equal steps, with and without ignoring the cache', async () => {
  const { solver } = world();
  let serial = 0;
  const jobs: AsyncDisposable[] = [];
  const solve = async (name: string, seed: string, value: string, ignoreCache = false): Promise<string> => {
    const job = solver.createJob(`j${serial++}`, { sessions: [] });
    jobs.push(job);
    const { value: result } = await job.solve({
      vertex: { ...vertexOf(step({ name, seed, value, ignoreCache })), digest: `sha256:${name}` as never },
      index: 0,
    });
    const text = result?.value ?? '';
    await result?.release();
    return text;
  };
  assert.equal(await solve('v0', 'seed0', 'result0'), 'result0');
  assert.equal(await solve('v0', 'seed1', 'result1', true), 'result1', 'apart from the one that does not');
  assert.equal(await solve('v2', 'seed2', 'result2'), 'result2');
  assert.equal(await solve('v3', 'seed2', 'result3', true), 'result3', 'takes the place');
  assert.equal(await solve('v4', 'seed2', 'result4', true), 'result3', 'both ignore: joins');
  assert.equal(await solve('v5', 'seed2', 'result5'), 'result3', 'an ordinary one joins');
  for (const job of jobs) await job[Symbol.asyncDispose]();
  assert.deepEqual(solver.dump(), []);
});

test('further cache maps are asked for only when the first ones match nothing', async () => {
  const { build } = world();
  await build(step({ name: 'v0', seed: 'seed0', moreSeeds: [() => 'seed1', () => 'seed2'], value: 'r' }));
  let asked = false;
  const ask = (seed: string) => () => {
    asked = true;
    return seed;
  };
  assert.equal(await build(step({ name: 'v1', seed: 'seed1', moreSeeds: [ask('seed3')], value: 'n' })), 'r');
  assert.equal(asked, false);
  assert.equal(await build(step({ name: 'v2', seed: 'seed3', moreSeeds: [ask('seed2')], value: 'n' })), 'r');
  assert.equal(asked, true);
});

test('a further cache map of an input makes up for a changed first one', async () => {
  const { build } = world();
  const graph = (seed: string, value: string) =>
    step({
      name: 'v0',
      value,
      inputs: [step({ name: `v1 ${seed}`, seed, moreSeeds: [() => 'second'], value })],
    });
  await build(graph('first', 'result'));
  const changed = graph('changed', 'never');
  assert.equal(await build(changed), 'result');
  assert.equal(totals(changed).exec, 0);
});

function sums(): Step {
  let serial = 0;
  const constant = (k: number): Step => step({ name: `const${serial++}`, seed: `const${k}`, value: `${k}` });
  const sum = (k: number, inputs: Step[]): Step =>
    step({
      name: `sum${serial++}`,
      seed: `sum${k}`,
      inputs,
      combine: (values) => `${values.reduce((total, v) => total + Number(v), k)}`,
    });
  return sum(3, [sum(0, [sum(2, [constant(2)]), constant(0)]), sum(2, [constant(2)])]);
}

test('equal steps run once; records that all fail to load are tried once each', async () => {
  const { build, results } = world();
  const first = sums();
  assert.equal(await build(first), '11');
  assert.deepEqual([totals(first), results.loads], [{ map: 7, exec: 5 }, 0]);
  const second = sums();
  assert.equal(await build(second), '11');
  assert.deepEqual([totals(second), results.loads], [{ map: 7, exec: 0 }, 1]);
  results.failing = true;
  const third = sums();
  assert.equal(await build(third), '11');
  assert.deepEqual([totals(third), results.loads], [{ map: 7, exec: 5 }, 6]);
});

test('an imported cache is used and taken over', async () => {
  const other = world();
  const graph = (value: string) => step({ name: 'v0', value, inputs: [step({ name: 'v1' })] });
  await other.build(graph('imported'));
  const own = world([{ keys: other.keys, results: other.results }]);
  const job = own.solver.createJob('j', { sessions: [] });
  const base = graph('never');
  const solve = async (top: Step): Promise<string | undefined> => {
    const { value } = await job.solve({ vertex: vertexOf(top), index: 0 }, undefined, own.imports);
    const text = value?.value;
    await value?.release();
    return text;
  };
  assert.equal(await solve(base), 'imported');
  assert.deepEqual([other.results.loads, own.results.loads], [1, 0]);
  const onTop = step({ name: 'v2', value: 'result2', inputs: [base] });
  assert.equal(await solve(onTop), 'result2');
  await job.close();

  // The record has become the solver's own, with the way that leads to it.
  other.results.failing = true;
  const again = graph('never');
  assert.equal(await own.build(again), 'imported');
  assert.equal(totals(again).exec, 0);
});

test('look-ups wait for imports under way, nothing else does; a failed one is no cache', async () => {
  const other = world();
  const graph = (value: string) => step({ name: 'v0', value, inputs: [step({ name: 'v1' })] });
  await other.build(graph('imported'));
  const own = world();
  const source = { keys: other.keys, results: other.results };
  const { promise, resolve } = Promise.withResolvers<(typeof source)[]>();
  await using job = own.solver.createJob('j', { sessions: [] });
  const top = graph('never');
  const imports = [
    { id: 'late', sources: promise },
    { id: 'none', sources: Promise.resolve([]) },
  ];
  const solved = job.solve({ vertex: vertexOf(top), index: 0 }, undefined, imports);
  await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual(totals(top), { map: 2, exec: 0 });
  resolve([source]);
  const { value, cached } = await solved;
  assert.deepEqual([value?.value, cached, totals(top).exec], ['imported', true, 0]);
  await value?.release();
  assert.equal(job.cacheTrace().sources.length, 2);
});

test('the newest record is tried first, then the next; ones whose result is gone are let go', async () => {
  const { build, keys, results } = world();
  await build(step({ name: 'v', value: 'made' }));
  const key = rootKey(digestOf('map v'), 0);
  for (const [id, createdAt] of [
    ['old', 1],
    ['newest', 4e12],
    ['gone', 5e12],
    ['broken', 3e12],
  ] as const) {
    keys.addRecord({ key, resultId: id, createdAt });
    if (id !== 'broken') results.values.set(id, id);
  }
  results.missing.add('gone');
  assert.equal(await build(step({ name: 'v', value: 'never' })), 'newest');
  assert.ok(![...keys.resultIds()].includes('gone'));
  results.values.delete('newest');
  results.loads = 0;
  assert.equal(await build(step({ name: 'v', value: 'never' })), 'made');
  assert.equal(results.loads, 3, 'newest and broken fail');
  assert.ok([...keys.resultIds()].includes('newest'), 'a failed load deletes nothing');
});

test('what depends on one session only leaves nothing in the cache but its content', async () => {
  const { build, keys } = world();
  const graph = (session: string, value: string) =>
    step({
      name: `copy ${session}`,
      seed: 'copy',
      value,
      content: [true],
      inputs: [step({ name: session, mapDigest: `random:${session}`, value: 'files' })],
    });
  await build(graph('s1', 'first'));
  assert.equal([...keys.resultIds()].length, 1);
  const again = graph('s2', 'never');
  assert.equal(await build(again), 'first');
  assert.deepEqual(totals(again), { map: 2, exec: 1 });
});
