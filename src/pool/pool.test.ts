import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BuildError, Code, errno } from '../base/errors.ts';
import { type PoolOptions, WorkerPool } from './pool.ts';
import { inlineRunner } from './serve.ts';
import type { JobContext, JobRunner } from './types.ts';

const dir = mkdtempSync(join(tmpdir(), 'pool-'));
after(() => rmSync(dir, { recursive: true }));
const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

/** The same jobs inline and, by their text, in a worker. */
const jobs = {
  add: (input: { a: number; b: number }) => input.a + input.b,
  fail: async (input: { path: string }) => {
    const { readFileSync } = process.getBuiltinModule('node:fs');
    return readFileSync(input.path, 'utf8');
  },
  spin: (input: { file: string }, context: JobContext) => {
    const { writeFileSync: write } = process.getBuiltinModule('node:fs');
    for (;;) {
      write(input.file, '');
      context.throwIfAborted();
    }
  },
  buffer: (input: { data: Uint8Array }, context: JobContext) => {
    context.report({ length: input.data.length });
    const copy = new Uint8Array(input.data);
    copy[0] = 9;
    context.transfer?.(copy.buffer);
    return copy;
  },
  die: () => {
    process.exit(3);
  },
};
const entry = join(dir, 'worker.ts');
writeFileSync(
  entry,
  `import { serveJobs } from ${url('./serve.ts')};
   import { BuildError } from ${url('../base/errors.ts')};
   serveJobs({ ${Object.entries(jobs)
     .map(([name, job]) => `${name}: ${job.toString()}`)
     .join(',\n')},
     typed: () => { throw new BuildError('no', { code: 5, hint: 'h', details: [{ type: 't', value: 1 }] }); } });`,
);
type TestJobs = typeof jobs & { typed: () => void };

function pool(options: Partial<PoolOptions> = {}): WorkerPool<TestJobs> {
  return new WorkerPool<TestJobs>({ size: 2, worker: { file: entry }, ...options });
}

async function contract(runner: JobRunner<typeof jobs>): Promise<void> {
  assert.equal(await runner.run('add', { a: 1, b: 2 }), 3);
  await assert.rejects(runner.run('fail', { path: '/nonexistent' }), (error) => {
    assert.ok(error instanceof BuildError);
    assert.equal(errno(error.cause), 'ENOENT');
    assert.equal((error.cause as NodeJS.ErrnoException).path, '/nonexistent');
    return true;
  });
  const data = new Uint8Array(100_000).fill(1);
  const seen: unknown[] = [];
  const options = { transfer: [data.buffer], onProgress: (value: unknown) => void seen.push(value) };
  const result = await runner.run('buffer', { data }, options);
  assert.equal(data.length, 0, 'the buffer was handed over');
  assert.deepEqual([result[0], result[1], result.length, seen], [9, 1, 100_000, [{ length: 100_000 }]]);
  const reason = new Error('gone');
  await assert.rejects(runner.run('add', { a: 1, b: 1 }, { signal: AbortSignal.abort(reason) }), reason);
}

test('inline runner', () => contract(inlineRunner(jobs)));

test('threads', async () => {
  await using runner = pool();
  await contract(runner);
  await assert.rejects(runner.run('typed', undefined), (error) => {
    assert.ok(error instanceof BuildError);
    assert.deepEqual(
      [error.code, error.hint, error.details],
      [Code.notFound, 'h', [{ type: 't', value: 1 }]],
    );
    return true;
  });
});

test('an abort stops the work before the promise settles', async () => {
  await using runner = pool();
  const abort = new AbortController();
  const file = join(dir, 'spin');
  const running = runner.run('spin', { file }, { signal: abort.signal });
  while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5));
  const reason = new Error('enough');
  abort.abort(reason);
  await assert.rejects(running, reason);
  rmSync(file);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(existsSync(file), false);
  assert.equal(await runner.run('add', { a: 2, b: 2 }), 4);
});

test('threads start with the work, share the queue and end when idle', async () => {
  let idle = 0;
  await using runner = pool({ idleMs: 400, onIdle: () => idle++ });
  assert.equal(runner.threads, 0);
  const sums = await Promise.all(Array.from({ length: 50 }, (_, i) => runner.run('add', { a: i, b: 0 })));
  assert.deepEqual(sums, [...sums.keys()]);
  assert.equal(runner.threads, 2);
  while (idle === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  // More than once when the machine is so busy that a thread ends before the next has begun.
  assert.ok(runner.threads === 0 && idle > 0);
  assert.equal(await runner.run('add', { a: 1, b: 1 }), 2);
});

test('a thread can be there before the first job, and ends when none comes', async () => {
  await using pool = new WorkerPool<typeof jobs>({ size: 2, worker: { file: entry }, idleMs: 50 });
  pool.warm();
  pool.warm();
  assert.equal(pool.threads, 1);
  assert.equal(await pool.run('add', { a: 1, b: 2 }), 3);
  assert.equal(pool.threads, 1);
  pool.warm();
  assert.equal(pool.threads, 1);
  for (let waits = 0; waits < 100 && pool.threads > 0; waits++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(pool.threads, 0);
});

test('a waiting job leaves the queue at once; a full queue refuses', async () => {
  await using runner = pool({ size: 1, maxQueue: 1 });
  const first = new AbortController();
  const file = join(dir, 'spin2');
  const busy = runner.run('spin', { file }, { signal: first.signal });
  const second = new AbortController();
  const waiting = runner.run('add', { a: 1, b: 1 }, { signal: second.signal });
  await assert.rejects(runner.run('add', { a: 1, b: 1 }), { code: Code.resourceExhausted });
  second.abort(new Error('left'));
  await assert.rejects(waiting, /left/);
  first.abort();
  await assert.rejects(busy, { name: 'AbortError' });
});

test('a thread that dies fails its job only', async () => {
  await using runner = pool({ size: 1 });
  const died = runner.run('die', undefined);
  const next = runner.run('add', { a: 3, b: 4 });
  await assert.rejects(died, { code: Code.internal, message: /ended during die/ });
  assert.equal(await next, 7);
  await assert.rejects(
    runner.run('add', { a: 1, b: (() => {}) as never }),
    (error) => error instanceof BuildError && /could not be cloned/.test(error.message),
  );
  assert.equal(await runner.run('add', { a: 3, b: 5 }), 8);
});

test('closing rejects what runs and waits', async () => {
  const runner = pool({ size: 1 });
  const one = runner.run('spin', { file: join(dir, 'spin3') });
  const two = runner.run('add', { a: 1, b: 1 });
  const outcome = Promise.allSettled([one, two]);
  await runner[Symbol.asyncDispose]();
  for (const { status } of await outcome) assert.equal(status, 'rejected');
  await assert.rejects(runner.run('add', { a: 1, b: 1 }), { code: Code.unavailable });
});

test('source text as the worker, for executables without files', async () => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    parentPort.on('message', (m) => parentPort.postMessage({ kind: 'done', value: m.input.a + workerData }));`;
  await using runner = new WorkerPool<TestJobs>({ size: 1, worker: { source }, workerData: 40 });
  assert.equal(await runner.run('add', { a: 2, b: 0 }), 42);
});
