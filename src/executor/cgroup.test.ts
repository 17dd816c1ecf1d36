import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { spawn } from '../sys/spawn.ts';
import { silentLogger } from '../base/log.ts';
import { handOutControllers } from './cgroup-root.ts';
import { countsOomKill, freezeCgroup, freezerFile, isCgroupV2, killCgroup } from './cgroup.ts';

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

test('a cgroup that is frozen goes as well', async () => {
  const path = `/bkt-test-frozen-${process.pid}`;
  const child = spawn({ file: '/bin/sleep', args: ['sleep', '60'], env: {} });
  const dir = dirname(freezerFile(path).path);
  mkdirSync(dir);
  writeFileSync(join(dir, 'cgroup.procs'), `${child.pid}\n`);
  assert.equal(freezeCgroup(path), true);
  const start = performance.now();
  await killCgroup(path);
  assert.equal((await child.exited).signal, 'SIGKILL');
  assert.ok(performance.now() - start < 2000);
  assert.equal(existsSync(dir), false);
  assert.equal(freezeCgroup(path), false);
});

test('the processes of a root move aside and its controllers are handed out', async (t) => {
  const unified = isCgroupV2() ? '/sys/fs/cgroup' : '/sys/fs/cgroup/unified';
  if (!existsSync(join(unified, 'cgroup.controllers'))) return t.skip('no unified hierarchy');
  const root = join(unified, `bkt-test-root-${process.pid}`);
  mkdirSync(root);
  const child = spawn({ file: '/bin/sleep', args: ['sleep', '60'], env: {} });
  t.after(async () => {
    child.kill('SIGKILL');
    await child.exited;
    for (const dir of [join(root, 'init'), root]) rmdirSync(dir);
  });
  writeFileSync(join(root, 'cgroup.procs'), `${child.pid}\n`);
  handOutControllers(silentLogger, root);
  const read = (name: string): string => readFileSync(join(root, name), 'utf8').trim();
  assert.equal(read('cgroup.procs'), '');
  assert.equal(read('init/cgroup.procs'), String(child.pid));
  assert.equal(read('cgroup.subtree_control'), read('cgroup.controllers'));
});

test('out of memory is read from the events of a cgroup', () => {
  assert.ok(countsOomKill('low 0\nhigh 0\nmax 5\noom 1\noom_kill 2\noom_group_kill 0\n'));
  for (const text of ['', 'oom 1\noom_kill 0\n', 'oom_kill\n', 'x oom_kill 3\n'])
    assert.ok(!countsOomKill(text));
});
