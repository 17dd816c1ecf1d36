import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { spawn } from '../sys/spawn.ts';
import { isCgroupV2, killCgroup } from './cgroup.ts';

test('a path with `..` does not lead out of the cgroup file system', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cgroup-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const child = spawn({ file: '/bin/sleep', args: ['sleep', '60'], env: {} });
  writeFileSync(join(dir, 'cgroup.procs'), `${child.pid}\n`);
  await killCgroup(`/../../../../../..${dir}`);
  assert.ok(existsSync(dir));
  assert.ok(child.kill('SIGTERM'));
  assert.equal((await child.exited).signal, 'SIGTERM');
});

test('a cgroup goes with the processes in it and below, in every hierarchy', async () => {
  const path = `/bkt-test-${process.pid}`;
  const mounts = isCgroupV2() ? ['/sys/fs/cgroup'] : ['/sys/fs/cgroup/memory', '/sys/fs/cgroup/pids'];
  const child = spawn({ file: '/bin/sleep', args: ['sleep', '60'], env: {} });
  for (const mount of mounts) {
    mkdirSync(join(mount, path, 'a/b'), { recursive: true });
    writeFileSync(join(mount, path, 'a/b/cgroup.procs'), `${child.pid}\n`);
  }
  await killCgroup(path);
  assert.equal((await child.exited).signal, 'SIGKILL');
  for (const mount of mounts) assert.ok(!existsSync(join(mount, path)), mount);
  await killCgroup(path);
});
