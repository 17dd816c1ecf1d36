import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import { assertNoneAlive, type Step, step, vertexOf, world } from '../testing/solver.ts';
import type { OpContext, SolveStatus, VertexState } from './types.ts';

test.afterEach(assertNoneAlive);

const edge = (root: Step) => ({ vertex: vertexOf(root), index: 0 });
const none = { sessions: [] };

function gate(): { open: () => void; wait: (context: OpContext) => Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    open: resolve,
    wait: ({ signal }) =>
      new Promise((go, fail) => {
        signal.addEventListener('abort', () => fail(signal.reason));
        promise.then(go);
      }),
  };
}

async function statesOf(statuses: AsyncIterable<SolveStatus>): Promise<VertexState[]> {
  const states: VertexState[] = [];
  for await (const status of statuses) states.push(...status.vertexes);
  return states;
}

const forever = new AbortController().signal;

test('ids of open jobs are taken; asking for one waits for it', async () => {
  const { solver } = world();
  const waiting = solver.job('later', forever);
  const job = solver.createJob('later', none);
  assert.equal(await waiting, job);
  assert.throws(() => solver.createJob('later', none), {
    message: 'job ID later exists',
    code: Code.alreadyExists,
  });
  await job.close();
  await solver.createJob('later', none).close();
  await assert.rejects(solver.job('never', AbortSignal.timeout(5)), /timeout/);
});

test('an error names its vertex, once, through all that needed it', async () => {
  const { solver } = world();
  await using job = solver.createJob('j', none);
  const bad = step({
    name: 'bad',
    beforeExec: () => Promise.reject(new BuildError('boom', { code: Code.notFound })),
  });
  const top = step({ inputs: [step({ inputs: [bad] })] });
  const vertex = vertexOf(top).inputs[0]?.vertex.inputs[0]?.vertex;
  await assert.rejects(job.solve(edge(top)), {
    message: 'boom',
    code: Code.notFound,
    details: [{ type: 'errdefs.Vertex', value: { digest: vertex?.digest } }],
  });
  await assert.rejects(job.solve(edge(top)), /boom/);
  assert.equal(bad.counts.exec, 1, 'the failure is remembered while the job lives');
  await job.close();
  const states = await statesOf(job.status(forever));
  assert.equal(states.find(({ name }) => name === 'bad')?.error, 'boom');
});

test('a source that cannot be found says so, as a key that could not be loaded', async () => {
  const { solver } = world();
  const job = solver.createJob('j', none);
  const beforeMap = () => Promise.reject(new BuildError('gone', { code: Code.notFound }));
  const message = 'failed to load cache key: gone';
  await assert.rejects(job.solve(edge(step({ name: 'source', beforeMap }))), {
    message,
    code: Code.notFound,
  });
  await job.close();
  const states = await statesOf(job.status(forever));
  assert.equal(states.find(({ name }) => name === 'source')?.error, 'gone');
});

test('a content key that cannot be made fails the step that asked for it', async () => {
  const { solver } = world();
  const job = solver.createJob('j', none);
  const hash = () => Promise.reject(new BuildError('/x: not found', { code: Code.notFound }));
  const top = step({ name: 'copy', content: [true], inputs: [step()], hash });
  const told = { message: 'failed to compute cache key: /x: not found', code: Code.notFound };
  await assert.rejects(job.solve(edge(top)), told);
  await job.close();
  const [shown] = (await statesOf(job.status(forever))).filter(({ name }) => name === 'copy');
  assert.equal(shown?.error, '/x: not found');
  assert.ok(shown?.started !== undefined && shown.completed !== undefined);
  assert.equal(top.counts.exec, 0);
});

test('solves run inside solves, and sessions grow as jobs join', async () => {
  const { solver } = world();
  const seen: string[][] = [];
  const { open, wait } = gate();
  const shared = step({
    name: 'shared',
    beforeExec: async (context) => {
      seen.push([...context.sessions()]);
      await wait(context);
      seen.push([...context.sessions()]);
    },
  });
  await using first = solver.createJob('first', { sessions: ['s1'] });
  await using second = solver.createJob('second', { sessions: ['s2', 's1'] });
  const outer = step({
    name: 'frontend',
    beforeExec: async () => {
      const { value } = await first.solve(edge(shared));
      await value?.release();
    },
  });
  const one = first.solve(edge(outer));
  await sleep(5);
  const two = second.solve(edge(shared));
  await sleep(5);
  open();
  for (const { value } of await Promise.all([one, two])) await value?.release();
  assert.deepEqual(seen, [['s1'], ['s1', 's2']]);
  assert.equal(shared.counts.exec, 1);
});

test('closing a job ends its solves and frees what runs', async () => {
  const { solver } = world();
  const job = solver.createJob('j', none);
  let aborted = false;
  const stuck = step({
    name: 'stuck',
    beforeExec: ({ signal, progress }) => {
      progress.status('working', {});
      return new Promise((_, fail) =>
        signal.addEventListener('abort', () => {
          aborted = true;
          fail(signal.reason);
        }),
      );
    },
  });
  const solving = job.solve(edge(step({ name: 'never run', inputs: [stuck] })));
  const failing = assert.rejects(solving, { message: 'context canceled', code: Code.canceled });
  await sleep(5);
  assert.deepEqual(
    solver.dump().map(({ stage, wanted }) => [stage, wanted]),
    [
      ['result', 1],
      ['result', 1],
    ],
  );
  await job.close();
  const shown = (await statesOf(job.status(forever))).map(({ name, error, completed }) => [
    name,
    error,
    completed !== undefined,
  ]);
  assert.deepEqual(shown, [
    ['stuck', 'context canceled', true],
    ['never run', '', false],
  ]);
  await failing;
  assert.ok(aborted);
  assert.deepEqual(solver.dump(), []);
  await assert.rejects(job.solve(edge(stuck)), { code: Code.canceled });
});

test('a result that arrives after the end is released', async () => {
  const { solver } = world();
  const job = solver.createJob('j', none);
  const deaf = step({ beforeExec: () => sleep(20) });
  const solving = assert.rejects(job.solve(edge(deaf)), { code: Code.canceled });
  await sleep(5);
  await job.close();
  await solving;
  await sleep(30);
});

test('the twin that runs goes on for its follower when its own job is cancelled', async () => {
  const { solver } = world();
  const { open, wait } = gate();
  const same = (name: string) => step({ name, seed: 'same', value: 'result', beforeExec: wait });
  const one = same('one');
  const two = same('two');
  const first = solver.createJob('first', none);
  const second = solver.createJob('second', none);
  const lost = assert.rejects(first.solve(edge(one)), { code: Code.canceled });
  await sleep(5);
  const kept = second.solve(edge(two));
  await sleep(5);
  await first.close();
  await lost;
  await sleep(5);
  open();
  const { value } = await kept;
  assert.equal(value?.value, 'result');
  await value?.release();
  assert.deepEqual([one.counts.exec, two.counts.exec], [1, 0]);
  await second.close();
  assert.deepEqual(solver.dump(), []);
});

test('a follower that is cancelled does not keep its twin running', async () => {
  const { solver } = world();
  let aborted = 0;
  const wait = ({ signal }: OpContext): Promise<void> =>
    new Promise((_, fail) =>
      signal.addEventListener('abort', () => {
        aborted++;
        fail(signal.reason);
      }),
    );
  const same = (name: string) => step({ name, seed: 'same', beforeExec: wait });
  const first = solver.createJob('first', none);
  const second = solver.createJob('second', none);
  const lost = [first, second].map((job, i) =>
    assert.rejects(job.solve(edge(same(`t${i}`))), { code: Code.canceled }),
  );
  await sleep(5);
  await first.close();
  await sleep(5);
  assert.equal(aborted, 0);
  await second.close();
  await Promise.all(lost);
  assert.equal(aborted, 1);
  assert.deepEqual(solver.dump(), []);
});

test('a follower that gives up, in a job that stays, does not keep its twin running', async () => {
  const { solver } = world();
  let aborted = 0;
  const beforeExec = ({ signal }: OpContext): Promise<void> =>
    new Promise((_, fail) =>
      signal.addEventListener('abort', () => {
        aborted++;
        fail(signal.reason);
      }),
    );
  await using job = solver.createJob('j', none);
  const aborts = [new AbortController(), new AbortController()];
  const lost = aborts.map(({ signal }, i) => {
    const twin = step({ name: `twin${i}`, seed: 'same', beforeExec });
    return assert.rejects(job.solve(edge(twin), signal), { code: Code.canceled });
  });
  await sleep(5);
  aborts[0]?.abort();
  await sleep(5);
  assert.equal(aborted, 0, 'the follower still wants it');
  aborts[1]?.abort();
  await Promise.all(lost);
  await sleep(5);
  assert.equal(aborted, 1);
});

test('one that wants a step again while it is being aborted gets it', async () => {
  const { solver } = world();
  let calls = 0;
  const slow = step({
    value: 'done',
    beforeExec: async ({ signal }) => {
      calls++;
      if (calls > 1) return;
      await new Promise<void>((go) => signal.addEventListener('abort', () => go()));
      await sleep(10); // takes its time to end
      signal.throwIfAborted();
    },
  });
  await using job = solver.createJob('j', none);
  const abort = new AbortController();
  const first = assert.rejects(job.solve(edge(slow), abort.signal), { code: Code.canceled });
  await sleep(5);
  abort.abort();
  await first;
  await sleep(2);
  const { value } = await job.solve(edge(slow));
  assert.equal(value?.value, 'done');
  await value?.release();
  assert.equal(calls, 2);
});

test('steps of a job are shown with what they report', async () => {
  const { solver } = world();
  const job = solver.createJob('j', none);
  const result = await job.step(digestOf('x'), 'exporting', async (progress) => {
    progress.status('layers', { total: 10 });
    progress.log(1, Buffer.from('hello'));
    progress.status('layers', { current: 10, done: true });
    return 7;
  });
  assert.equal(result, 7);
  await assert.rejects(
    job.step(digestOf('y'), 'failing', () => Promise.reject(new Error('no'))),
    /no/,
  );
  const slow = Promise.withResolvers<void>();
  const going = job.step(digestOf('z'), 'going on', () => slow.promise);
  await job.close();
  slow.resolve();
  await going;
  const seen: SolveStatus[] = [];
  for await (const status of job.status(forever)) seen.push(status);
  const vertexes = seen.flatMap((status) => status.vertexes);
  assert.deepEqual(
    vertexes.map(({ name, error, cached }) => [name, error, cached]),
    [
      ['exporting', '', false],
      ['failing', 'no', false],
      ['going on', 'context canceled', false],
    ],
  );
  assert.ok(vertexes.every(({ started = 0n, completed = 0n }) => completed >= started && started > 0n));
  const [layers] = seen.flatMap((status) => status.statuses);
  assert.deepEqual([layers?.current, layers?.total, layers?.completed !== undefined], [10, 10, true]);
  assert.equal(Buffer.from(seen[0]?.logs[0]?.data ?? []).toString(), 'hello');
});

test('a job that joins late is told what happened; a step that starts again is shown as running', async () => {
  const { solver } = world();
  const { open, wait } = gate();
  const shared = step({ name: 'shared', beforeExec: wait });
  const first = solver.createJob('first', none);
  const second = solver.createJob('second', none);
  const one = first.solve(edge(shared));
  await sleep(5);
  const two = second.solve(edge(shared));
  const reading = statesOf(second.status(forever));
  await sleep(5);
  open();
  for (const { value } of await Promise.all([one, two])) await value?.release();
  await first.close();
  await second.close();
  const [now, ...later] = (await reading).filter(({ name }) => name === 'shared');
  assert.ok(now?.started !== undefined && now.completed === undefined, 'running when it joined');
  assert.ok(later.at(-1)?.completed !== undefined);
});
