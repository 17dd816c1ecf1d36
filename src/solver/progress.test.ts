import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { JobProgress, VertexReporter } from './progress.ts';

const never = new AbortController().signal;

test('a reader that comes late sees the end of a run that was followed by another', async () => {
  const job = new JobProgress();
  const reader = job.read(never);
  const vertex = new VertexReporter(digestOf('v'), 'v', []);
  vertex.join(job);
  const first = reader.next();
  await first;
  vertex.start();
  vertex.complete();
  vertex.start();
  vertex.complete();
  job.close();
  const seen = [];
  for await (const status of reader) seen.push(...status.vertexes);
  assert.equal(seen.filter((v) => v.completed !== undefined).length, 2);
});

test('a reader that takes its time gets much in one message, and the end at once', async () => {
  const job = new JobProgress();
  const reader = job.read(never, { pauseMs: 3_600_000 });
  const vertex = new VertexReporter(digestOf('v'), 'v', []);
  const first = reader.next();
  vertex.join(job);
  await new Promise((resolve) => setImmediate(resolve));
  vertex.log(1, Buffer.from('a'));
  vertex.log(1, Buffer.alloc(2 << 20));
  const { value } = await first; // a lot was logged: no waiting
  assert.equal(value?.logs.length, 2);
  const last = reader.next();
  vertex.log(1, Buffer.from('b'));
  await new Promise((resolve) => setImmediate(resolve));
  vertex.complete();
  job.close();
  const end = await last;
  assert.deepEqual([end.value?.logs.length, end.value?.vertexes[0]?.completed !== undefined], [1, true]);
  assert.equal((await reader.next()).done, true);
});
