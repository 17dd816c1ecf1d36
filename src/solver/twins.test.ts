// Different vertexes that come to the same: one works for all of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertNoneAlive, type Step, step, vertexOf, world } from '../testing/solver.ts';

test.afterEach(assertNoneAlive);

const edge = (root: Step, index = 0) => ({ vertex: vertexOf(root), index });

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}

let serial = 0;
const number = (value: number): Step =>
  step({ name: `number${serial++}`, seed: `number ${value}`, value: `${value}` });
/** Adds 2 to each input, one output for each. */
const plusTwo = (inputs: Step[]): Step =>
  step({
    name: `plus${serial++}`,
    seed: 'plus two',
    inputs,
    outputs: (values) => values.map((value) => `${Number(value) + 2}`),
  });
const sum = (...uses: (readonly [Step, number])[]): Step =>
  step({
    name: `sum${serial++}`,
    seed: 'sum',
    inputs: uses.map(([input]) => input),
    uses: uses.map(([, index]) => index),
    combine: (values) => `${values.reduce((total, value) => total + Number(value), 1)}`,
  });

test('twins with two outputs each, asked for crosswise, do not wait for each other', async () => {
  for (let round = 0; round < 20; round++) {
    const { build } = world();
    const [one, two] = [plusTwo([number(3), number(4)]), plusTwo([number(3), number(4)])];
    assert.equal(await build(sum([one, 1], [two, 0], [one, 0], [two, 1])), '23');
    assert.equal(one.counts.exec + two.counts.exec, 1);
  }
});

test('three twins with three outputs each run once', async () => {
  for (let round = 0; round < 20; round++) {
    const { build } = world();
    const three = () => plusTwo([number(3), number(4), number(5)]);
    const [a, b, c] = [three(), three(), three()];
    assert.equal(await build(sum([b, 0], [a, 0], [c, 1], [a, 1], [a, 2], [b, 2])), '37');
    assert.equal(a.counts.exec + b.counts.exec + c.counts.exec, 1);
  }
});

const copy = (name: string, context: string, content = 'same'): Step =>
  step({
    name,
    seed: 'copy',
    content: [true],
    inputs: [step({ name: context, value: content })],
    beforeExec: () => sleep(10),
    combine: ([value]) => `copy of ${value}`,
  });

test('steps whose inputs turn out to hold the same run once, and so do those on top of them', async () => {
  const { solver, results } = world();
  const on = (below: Step, name: string) => step({ name, seed: 'on top', inputs: [below] });
  const copies = [copy('one', 'here'), copy('two', 'there'), copy('other', 'elsewhere', 'different')];
  const tops = copies.map((below, i) => on(below, `top ${i}`));
  const jobs = tops.map((_, i) => solver.createJob(`j${i}`, { sessions: [] }));
  const solved = await Promise.all(jobs.map((job, i) => job.solve(edge(tops[i] as Step))));
  for (const { value } of solved) await value?.release();
  assert.deepEqual(
    copies.map(({ counts }) => counts.exec),
    [1, 0, 1],
  );
  assert.equal((tops[0]?.counts.exec ?? 0) + (tops[1]?.counts.exec ?? 0), 1);
  assert.equal(results.loads, 0);
  for (const job of jobs) await job.close();
  assert.deepEqual(solver.dump(), []);
});

test('one that runs for another goes on when its own job is cancelled', async () => {
  const { solver } = world();
  const gate = Promise.withResolvers<void>();
  const beforeExec = (): Promise<void> => gate.promise;
  const [one, two] = ['one', 'two'].map((name) => step({ ...copy(name, `context of ${name}`), beforeExec }));
  const [first, second] = ['first', 'second'].map((id) => solver.createJob(id, { sessions: [] }));
  const doing = (what: string) => (): boolean =>
    solver.dump().some((state) => state.doing.some((activity) => activity.what === what));
  const lost = assert.rejects(first!.solve(edge(one!)), /context canceled/);
  await until(doing('runs'));
  const kept = second!.solve(edge(two!));
  await until(doing('waits for one'));
  await first!.close();
  await lost;
  gate.resolve();
  const { value, cached } = await kept;
  assert.deepEqual([value?.value, cached, one!.counts.exec, two!.counts.exec], ['copy of same', true, 1, 0]);
  await value?.release();
  await second!.close();
});

test('a step on top of its twin is not run again', async () => {
  const { build } = world();
  const same = (name: string, below: Step): Step =>
    step({ name, seed: 'same', content: [true], inputs: [below], combine: ([value]) => value ?? '' });
  const inner = same('inner', step({ name: 'context', value: 'x' }));
  const outer = same('outer', inner);
  assert.equal(await build(outer), 'x');
  assert.deepEqual([inner.counts.exec, outer.counts.exec], [1, 0]);
});

test('an ordinary step that runs is joined again after one that ignored the cache has gone', async () => {
  const { solver } = world();
  const gate = Promise.withResolvers<void>();
  const same = (name: string, ignoreCache = false): Step =>
    step({ name, seed: 'same', ignoreCache, ...(ignoreCache ? {} : { beforeExec: () => gate.promise }) });
  const steps = [same('plain'), same('late')] as const;
  const jobs = ['a', 'b', 'c'].map((id) => solver.createJob(id, { sessions: [] }));
  const plain = jobs[0]!.solve(edge(steps[0]));
  await until(() => steps[0].counts.exec === 1);
  const ignoring = await jobs[1]!.solve(edge(same('ignoring', true)));
  await ignoring.value?.release();
  await jobs[1]!.close();
  const late = jobs[2]!.solve(edge(steps[1]));
  await until(() => solver.dump().some(({ doing }) => doing.some(({ what }) => what === 'waits for plain')));
  gate.resolve();
  for (const { value } of await Promise.all([plain, late])) await value?.release();
  assert.equal(steps[1].counts.exec, 0);
  for (const job of jobs) await job.close();
});

test('what is made for a graph that is there already with other settings does not stay', async () => {
  const { solver } = world();
  const graph = (ignoreCache: boolean): Step =>
    step({ name: 'top', inputs: [step({ name: 'below', ignoreCache })] });
  const first = solver.createJob('first', { sessions: [] });
  const second = solver.createJob('second', { sessions: [] });
  for (const [job, ignoreCache] of [
    [first, false],
    [second, true],
  ] as const) {
    const { value } = await job.solve(edge(graph(ignoreCache)));
    await value?.release();
  }
  await first.close();
  await second.close();
  assert.deepEqual(solver.dump(), []);
});
