import assert from 'node:assert/strict';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

test('a thread steps back alone', async () => {
  const file = new URL('./priority.ts', import.meta.url).href;
  const source = `import('${file}').then(({ lowerThreadPriority }) => {
    lowerThreadPriority();
    const { readFileSync } = require('node:fs');
    const stat = readFileSync('/proc/thread-self/stat', 'utf8');
    require('node:worker_threads').parentPort.postMessage(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
  });`;
  const before = getPriority();
  const nice = await new Promise((resolve, reject) => {
    const worker = new Worker(source, { eval: true });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  assert.equal(nice, '19');
  assert.equal(getPriority(), before);
});
