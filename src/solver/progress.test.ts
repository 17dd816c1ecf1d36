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
