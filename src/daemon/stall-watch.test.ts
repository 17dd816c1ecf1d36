import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Logger } from '../base/log.ts';
import { silentLogger } from '../base/log.ts';
import { Slots } from '../solver/slots.ts';
import { assertNoneAlive, step, vertexOf, world } from '../testing/solver.ts';
import { StallWatch } from './stall-watch.ts';
import { dumpLines, dumpState } from './state-dump.ts';

const LIMIT_MS = 60_000;

function recording(): { log: Logger; warnings: { message: string; fields: Record<string, unknown> }[] } {
  const warnings: { message: string; fields: Record<string, unknown> }[] = [];
  const warn: Logger['warn'] = (message, fields = {}) => void warnings.push({ message, fields });
  return { log: { ...silentLogger, warn }, warnings };
}

/** A build of a step on top of one that does not end, before `open` is called. */
function stuck() {
  const { solver } = world();
  const gate = Promise.withResolvers<void>();
  const below = step({ name: 'below', beforeExec: () => gate.promise });
  const job = solver.createJob('stuck', { sessions: [] });
  const solving = job.solve({ vertex: vertexOf(step({ name: 'top', inputs: [below] })), index: 0 });
  const slots = new Slots(0);
  const sources = { edges: () => solver.dump(), jobs: () => solver.jobStates(), slots: () => slots.state };
  const end = async (): Promise<void> => {
    gate.resolve();
    await (await solving).value?.release();
    await job.close();
  };
  return { sources, below, job, end };
}

async function running(below: { readonly counts: { readonly exec: number } }): Promise<void> {
  while (below.counts.exec === 0) await new Promise((resolve) => setImmediate(resolve));
}

test('a build that stands still is warned of, with the step that waits and what for', async () => {
  const { sources, below, end } = stuck();
  await running(below);
  const { log, warnings } = recording();
  using watch = new StallWatch(sources, LIMIT_MS, log);
  const now = Date.now();
  watch.look(now + LIMIT_MS / 2);
  assert.equal(warnings.length, 0);
  watch.look(now + LIMIT_MS + 1000);
  assert.equal(warnings.length, 1);
  const [warning] = warnings;
  assert.equal(warning?.message, 'build makes no progress');
  assert.equal(warning.fields.build, 'stuck');
  assert.match(String(warning.fields.waits), /^below: result for 6\d s; runs for 6\d s$/);
  await end();
  assertNoneAlive();
});

test('warnings get rarer, end with progress, and do not outlive the build', async () => {
  const { sources, below, job, end } = stuck();
  await running(below);
  const { log, warnings } = recording();
  using watch = new StallWatch(sources, LIMIT_MS, log);
  const start = Date.now();
  for (let minute = 1; minute <= 9; minute++) watch.look(start + minute * LIMIT_MS + 1000);
  assert.equal(warnings.length, 3, 'after 1, 3 and 7 minutes');
  job.progress.warn({
    vertex: below.name as never,
    level: 0,
    short: Buffer.from('alive'),
    detail: [],
    url: '',
    ranges: [],
  });
  watch.look(Date.now() + 1000);
  assert.equal(warnings.length, 3);
  await end();
  watch.look(start + 100 * LIMIT_MS);
  assert.equal(warnings.length, 3);
});

test('a build that waits for its client is no stall; neither is one when warnings are off', async () => {
  const { solver } = world();
  const slots = new Slots(0);
  const sources = { edges: () => solver.dump(), jobs: () => solver.jobStates(), slots: () => slots.state };
  const { log, warnings } = recording();
  using watch = new StallWatch(sources, LIMIT_MS, log);
  using _off = new StallWatch(sources, 0, log);
  await using job = solver.createJob('idle', { sessions: [] });
  watch.look(Date.now() + 10 * LIMIT_MS);
  assert.equal(warnings.length, 0);
  const gate = Promise.withResolvers<void>();
  const export_ = job.step(`sha256:${'0'.repeat(64)}` as never, 'exporting', () => gate.promise);
  watch.look(Date.now() + 10 * LIMIT_MS);
  assert.match(warnings.map(({ fields }) => String(fields.waits)).join(), /^exporting: for 600 s$/);
  gate.resolve();
  await export_;
});

test('the dump names builds, steps, what they wait for, and the queue', async () => {
  const { sources, below, end } = stuck();
  await running(below);
  const slots = new Slots(1);
  const never = new AbortController().signal;
  using _first = await slots.acquire({ name: 'below', owners: () => [{ id: 'stuck' }] }, never);
  const second = slots.acquire({ name: 'other', owners: () => [{ id: 'b' }] }, never);
  const dump = dumpState({ ...sources, slots: () => slots.state });
  const text = dumpLines(dump)
    .join('\n')
    .replace(/\d+\.\d s/g, 'N s');
  assert.equal(
    text,
    `build stuck: last progress N s ago
  below: result for N s; runs for N s
  top: result for N s; waits for below (result)
1 steps run in 1 places, 1 wait
  runs for stuck: below
  waits as number 1 for b, N s: other`,
  );
  assert.equal(JSON.parse(JSON.stringify(dump)).slots.limit, 1);
  await end();
  _first[Symbol.dispose]();
  (await second)[Symbol.dispose]();
});
