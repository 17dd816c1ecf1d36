import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, isCanceled } from '../base/errors.ts';
import { assertNoneAlive, type Step, step, vertexOf, world } from '../testing/solver.ts';
import type { OpContext } from './types.ts';

const SEEDS = 250;

type Random = (below: number) => number;

function randomOf(seed: number): Random {
  let x = (seed * 2654435761) >>> 0;
  return (below) => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor((x / 2 ** 32) * below);
  };
}

/** Graphs of steps with twins, content keys, ignored caches and failures, equal for equal `spelling`. */
function graphs(seed: number, random: Random): (spelling: number) => Step {
  // A step of a closed job may still be ending when another job runs it.
  const running = new Map<string, AbortSignal>();
  const shape = Array.from({ length: 3 + random(15) }, (_, i) => ({
    inputs: i === 0 ? [] : [...new Set(Array.from({ length: random(4) }, () => random(i)))],
    content: random(2) === 1,
    ignoreCache: random(8) === 0,
    fails: random(25) === 0,
    waits: random(3),
  }));
  return (spelling) => {
    const steps: Step[] = [];
    shape.forEach(({ inputs, content, ignoreCache, fails, waits }, i) => {
      const name = `${seed}-${i}-${spelling}`;
      const beforeExec = async ({ signal }: OpContext): Promise<void> => {
        assert.ok(running.get(name)?.aborted ?? true, `${name} runs twice at once`);
        running.set(name, signal);
        try {
          for (let turn = 0; turn < waits; turn++) await new Promise(setImmediate);
          signal.throwIfAborted();
          if (fails) throw new BuildError(`${i} failed`);
        } finally {
          if (running.get(name) === signal) running.delete(name);
        }
      };
      const from = inputs.map((at) => steps[at] as Step);
      const value = `value ${i}`;
      steps.push(
        step({
          name,
          seed: `${seed}-${i}`,
          value,
          inputs: from,
          content: from.map(() => content),
          ignoreCache: ignoreCache && spelling === 1,
          beforeExec,
        }),
      );
    });
    return steps.at(-1) as Step;
  };
}

async function round(seed: number): Promise<void> {
  const random = randomOf(seed);
  const { solver, results } = world();
  const graph = graphs(seed, random);
  const runs = Array.from({ length: 6 }, async (_, i) => {
    const top = graph(random(3));
    const cut = random(3);
    const turns = random(12);
    const delay = random(4);
    if (delay > 0) await sleep(delay - 1);
    if (random(6) === 0) results.failing = !results.failing;
    const job = solver.createJob(`job${i}`, { sessions: [] });
    const abort = new AbortController();
    const solves = [0, 1].map(async () => {
      const { value } = await job.solve({ vertex: vertexOf(top), index: 0 }, abort.signal);
      const text = value?.value;
      await value?.release();
      return text;
    });
    const settled = Promise.allSettled(solves);
    for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
    if (cut === 1) abort.abort();
    if (cut === 2) await job.close();
    for (const outcome of await settled) {
      if (outcome.status === 'fulfilled') assert.match(outcome.value ?? '', /^value \d+$/);
      else if (cut === 0 || !isCanceled(outcome.reason)) assert.match(String(outcome.reason), /failed/);
    }
    await job.close();
  });
  await Promise.all(runs);
  await new Promise(setImmediate);
  assert.deepEqual(solver.dump(), []);
}

test('concurrent jobs with twins, failures, cancels and closes all end and leave nothing', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const stuck = AbortSignal.timeout(10_000);
    await Promise.race([
      round(seed),
      new Promise((_, fail) =>
        stuck.addEventListener('abort', () => fail(new Error(`seed ${seed} is stuck`))),
      ),
    ]);
  }
  await sleep(20);
  assertNoneAlive();
});
