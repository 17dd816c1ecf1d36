// Counts of cache maps, runs and loads that the reference solver makes where jobs share vertexes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canceled, isCanceled } from '../base/errors.ts';
import { assertNoneAlive, type Step, step, totals, vertexOf, world } from '../testing/solver.ts';
import { randomOf } from '../testing/sim/random.ts';

test.afterEach(assertNoneAlive);

type World = ReturnType<typeof world>;
type SimJob = ReturnType<World['solver']['createJob']>;

async function solve(job: SimJob, root: Step): Promise<string | undefined> {
  const { value } = await job.solve({ vertex: vertexOf(root), index: 0 });
  const text = value?.value;
  await value?.release();
  return text;
}

test('a vertex stays as it is while a job holds it, and is made anew after the last', async () => {
  const { solver } = world();
  const same = (value: string): Step => step({ name: 'v0', value, ignoreCache: true });
  const open = (id: string): SimJob => solver.createJob(id, { sessions: [] });
  const [first, second] = [same('result0'), same('result1')];
  const [j0, j1] = [open('j0'), open('j1')];
  assert.equal(await solve(j0, first), 'result0');
  assert.equal(await solve(j1, second), 'result0');
  await j0.close();
  const j2 = open('j2');
  assert.equal(await solve(j2, same('result2')), 'result0', 'the second job holds it still');
  assert.deepEqual(
    [first.counts, second.counts],
    [
      { map: 1, exec: 1 },
      { map: 0, exec: 0 },
    ],
  );
  await j1.close();
  await j2.close();
  const j3 = open('j3');
  assert.equal(await solve(j3, same('result3')), 'result3');
  await j3.close();
});

for (const [held, isWarm, isSameStep] of [
  [false, false, true],
  [true, false, true],
  [true, false, false],
  [true, true, true],
  [true, true, false],
] as const) {
  const how = `${held ? 'held by another job' : 'made anew'}, ${isWarm ? 'loaded' : 'run'} before`;
  test(`a step is found again on a base ${how}, ${isSameStep ? 'same' : 'another'} vertex`, async () => {
    const { solver } = world();
    const base = (): Step => step({ name: 'base', value: 'base' });
    const on = (name: string, value: string): Step => step({ name, seed: 'step', value, inputs: [base()] });
    if (isWarm) {
      await using warm = solver.createJob('warm', { sessions: [] });
      await solve(warm, base());
    }
    const one = solver.createJob('one', { sessions: [] });
    const first = on('step', 'result');
    assert.equal(await solve(one, first), 'result');
    assert.equal(totals(first).exec, isWarm ? 1 : 2);
    const holder = held ? solver.createJob('holder', { sessions: [] }) : undefined;
    if (holder) await solve(holder, base());
    await one.close();
    const again = on(isSameStep ? 'step' : 'other', 'never');
    await using two = solver.createJob('two', { sessions: [] });
    assert.equal(await solve(two, again), 'result');
    assert.equal(totals(again).exec, 0);
    await holder?.close();
  });
}

test('twins follow the one that is there, whoever leaves first; nothing is kept for nobody', async () => {
  const { solver } = world();
  const twin = (i: number): Step =>
    step({ name: `v${i}`, seed: 'v', value: `${i}`, inputs: [step({ name: `dep${i}`, seed: 'dep' })] });
  const names = (): string[] => [...new Set(solver.dump().map(({ name }) => name))].sort();
  const owners = (name: string): readonly string[] | undefined =>
    solver.dump().find((state) => state.name === name)?.jobs;
  const jobs = ['j0', 'j1', 'j2'].map((id) => solver.createJob(id, { sessions: [] }));
  const [j0, j1, j2] = jobs as [SimJob, SimJob, SimJob];
  assert.equal(await solve(j0, twin(0)), '0');
  assert.equal(await solve(j1, twin(1)), '0');
  assert.deepEqual([owners('v0'), owners('v1')], [['j0', 'j1'], ['j1']]);
  await j0.close();
  assert.deepEqual([owners('v0'), owners('dep0')], [['j1'], ['j1']]);
  assert.equal(await solve(j2, twin(2)), '0');
  await j1.close();
  assert.deepEqual(names(), ['dep0', 'dep2', 'v0', 'v2']);
  await j2.close();
  assert.deepEqual(names(), []);
});

test('a failure that looks like a cancel is one for its build only', async () => {
  const { build } = world();
  const fails = step({ name: 'fails', beforeExec: () => Promise.reject(canceled()) });
  await assert.rejects(build(step({ inputs: [fails, step()] })), (error) => isCanceled(error));
  assert.equal(fails.counts.exec, 1);
});

test('inputs that match different records, one of them to be asked for its content, end', async () => {
  const { build } = world();
  const graph = (seeds: readonly [string, string, string], content: readonly boolean[]): Step =>
    step({
      name: seeds.join(),
      seed: seeds[0],
      content,
      inputs: [
        step({ name: `one ${seeds[1]}`, seed: seeds[1], value: 'result1' }),
        step({ name: `two ${seeds[2]}`, seed: seeds[2], value: 'result2' }),
      ],
    });
  await build(graph(['top', 'one', 'two'], []));
  await build(graph(['other', 'one-1', 'two-1'], []));
  const mixed = graph(['other', 'one', 'two-1'], [false, true]);
  assert.equal(await build(mixed), 'other,one,two-1');
});

test('a graph of a thousand steps: each is looked at once, a rebuild runs nothing and loads one record', async () => {
  const { build, results } = world();
  const random = randomOf(1);
  const steps: Step[] = [];
  for (let i = 0; i < 1000; i++) {
    const inputs =
      i < 10 ? [] : Array.from({ length: 1 + random(3) }, () => steps[i - 1 - random(10)] as Step);
    steps.push(step({ name: `s${i}`, inputs }));
  }
  const root = step({ name: 'root', inputs: steps });
  await build(root);
  assert.deepEqual([totals(root), results.loads], [{ map: 1001, exec: 1001 }, 0]);
  await build(root);
  assert.deepEqual([totals(root), results.loads], [{ map: 2002, exec: 1001 }, 1]);
});
