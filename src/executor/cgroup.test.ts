import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { spawn } from '../sys/spawn.ts';
import { killCgroup } from './cgroup.ts';

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
