import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';

const url = (name: string): string => JSON.stringify(new URL(name, import.meta.url).href);

function run(before: string, then: string): string {
  const script = `
    import { readlinkSync, readFileSync, readdirSync } from 'node:fs';
    import { readlink } from 'node:fs/promises';
    import { Worker } from 'node:worker_threads';
    import { enterMountNamespace } from ${url('./namespace.ts')};
    ${before}
    await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });
    ${then}`;
  return execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
}

const SEEN = `
  const own = readlinkSync('/proc/thread-self/ns/mnt');
  const pool = await readlink('/proc/thread-self/ns/mnt');
  const worker = await new Promise((resolve, reject) => new Worker(
    "import { parentPort } from 'worker_threads'; import { readdirSync, readlinkSync } from 'fs'; parentPort.postMessage(readlinkSync('/proc/thread-self/ns/mnt'))",
    { eval: true }).on('message', resolve).on('error', reject));
  const lines = readFileSync('/proc/thread-self/mountinfo', 'utf8');
  process.stdout.write(JSON.stringify({ own, pool, worker, shared: / shared:/.test(lines),
    cgroup: readdirSync('/sys/fs/cgroup').sort() }));`;

for (const [name, before] of [
  ['a fresh process', ''],
  ['a process whose pool runs already, started again', "await readlink('/proc/self/exe');"],
] as const) {
  test(`main thread, pool and workers share a private namespace: ${name}`, () => {
    const seen = JSON.parse(run(before, SEEN)) as Record<string, unknown>;
    assert.notEqual(seen.own, readlinkSync('/proc/self/ns/mnt'));
    assert.equal(seen.pool, seen.own);
    assert.equal(seen.worker, seen.own);
    assert.equal(seen.shared, false);
    const here = readdirSync('/sys/fs/cgroup').sort();
    const hybrid = here.includes('unified');
    assert.deepEqual(seen.cgroup, hybrid ? here.filter((name) => name !== 'unified') : here);
  });
}
