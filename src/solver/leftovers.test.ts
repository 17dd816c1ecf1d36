import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Running } from '../base/running.ts';
import { type Step, step, vertexOf, world } from '../testing/solver.ts';
import { Leftovers, MAX_LEFTOVERS } from './leftovers.ts';
import type { Leftover, OpContext } from './types.ts';

function leftover() {
  const own = { released: 0, release: async () => void own.released++ };
  return own;
}

/** A step that fails and leaves something where a job asks for it. */
function failing() {
  const left: (Leftover & { released: number })[] = [];
  const beforeExec = async ({ keeper }: OpContext): Promise<void> => {
    const keep = keeper?.();
    if (keep) {
      const one = leftover();
      left.push(one);
      keep(one);
    }
    throw new Error('boom');
  };
  return { left, step: step({ name: 'bad', beforeExec }) };
}

const edge = (root: Step) => ({ vertex: vertexOf(root), index: 0 });
const none = { sessions: [] };

test('what a failed step leaves is kept for jobs that look into it, until the last of them closes', async () => {
  const { solver } = world();
  const bad = failing();
  const top = step({ inputs: [bad.step] });
  const first = solver.createJob('first', none);
  first.lookIntoFailures();
  await assert.rejects(first.solve(edge(top)), /boom/);
  const { digest } = edge(bad.step).vertex;
  assert.equal(first.failure(digest)?.leftover, bad.left[0]);
  assert.equal(first.failure(edge(top).vertex.digest)?.leftover, undefined);
  assert.equal(first.failure('sha256:other'), undefined);
  assert.deepEqual(
    [...solver.leftovers()].map(({ vertex, jobs }) => ({ vertex, jobs })),
    [{ vertex: 'bad', jobs: ['first'] }],
  );
  const second = solver.createJob('second', none);
  await assert.rejects(second.solve(edge(top)), /boom/);
  await first.close();
  assert.equal(bad.left[0]?.released, 0, 'another job has the step');
  assert.equal(second.failure(digest)?.leftover, bad.left[0]);
  await second.close();
  assert.deepEqual(
    bad.left.map(({ released }) => released),
    [1],
  );
  assert.deepEqual([...solver.leftovers()], []);
});

test('nothing is left for jobs that do not ask', async () => {
  const { solver } = world();
  await using job = solver.createJob('j', none);
  const bad = failing();
  await assert.rejects(job.solve(edge(bad.step)), /boom/);
  assert.deepEqual(bad.left, []);
});

test('what comes after the last job has closed is given back at once', async () => {
  const { solver } = world();
  const job = solver.createJob('j', none);
  job.lookIntoFailures();
  const late = leftover();
  const running = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  const beforeExec = async ({ keeper }: OpContext): Promise<void> => {
    const keep = keeper?.();
    running.resolve();
    await closed.promise;
    keep?.(late);
    throw new Error('boom');
  };
  const solving = job.solve(edge(step({ beforeExec })));
  await running.promise;
  const closing = job.close();
  closed.resolve();
  await assert.rejects(solving, /context canceled/);
  await closing;
  assert.ok(await solver.idle(1000));
  assert.equal(late.released, 1);
});

test('the oldest go when there are too many, all when their room is wanted', async () => {
  const kept = new Leftovers(new Running());
  const owners = new Set([{ looksIntoFailures: true }]);
  const all = Array.from({ length: MAX_LEFTOVERS + 2 }, () => ({ vertex: { owners }, left: leftover() }));
  for (const { vertex, left } of all) kept.keeper(vertex)?.(left);
  const released = (): number => all.filter(({ left }) => left.released === 1).length;
  assert.equal(released(), 2);
  assert.equal(kept.of(all[1]!.vertex), undefined);
  assert.equal(kept.of(all[2]!.vertex), all[2]!.left);
  const again = leftover();
  kept.keeper(all[2]!.vertex)?.(again);
  assert.equal(released(), 3, 'the one before it of the same step');
  assert.equal(await kept.dropAll(), true);
  assert.equal(released() + again.released, all.length + 1);
  assert.equal(await kept.dropAll(), false);
});
