// The executables of one file each, where there is no Node, no node_modules and no checkout.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run, TempDir } from './harness.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const START_LIMIT_MS = 30_000;
const dir = new TempDir();
/** What a step, its runtime and its daemon may find; no Node. */
const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', NODE_PATH: undefined, NODE_OPTIONS: undefined };

before(async () => {
  const script = join(ROOT, 'scripts/build-standalone.mjs');
  const made = await run(process.execPath, [script, dir.join('bin')], { cwd: ROOT });
  assert.equal(made.code, 0, made.stderr);
  dir.write({
    'context/Dockerfile': [
      'FROM scratch',
      'COPY busybox /bin/busybox',
      'RUN ["/bin/busybox", "sh", "-c", "echo from a step > /made"]',
      '',
    ].join('\n'),
  });
  copyFileSync('/bin/busybox', dir.join('context/busybox'));
  chmodSync(dir.join('context/busybox'), 0o755);
  mkdirSync(dir.join('empty'));
});

after(() => dir[Symbol.dispose]());

test('each says its version', async () => {
  for (const name of ['buildctl', 'buildkitd']) {
    const said = await run(dir.join('bin', name), ['--version'], { env, cwd: dir.join('empty') });
    assert.equal(said.code, 0, said.stderr);
    assert.match(said.stdout.toString(), new RegExp(`^${name} buildkit-ts v\\d`));
  }
});

test('they build with a step and stop in order', async () => {
  const options = { env, cwd: dir.join('empty') };
  const address = `unix://${dir.join('d.sock')}`;
  const daemon = spawn(dir.join('bin/buildkitd'), ['--root', dir.join('root'), '--addr', address], {
    env: { ...process.env, ...env },
    cwd: dir.join('empty'),
    stdio: 'ignore',
  });
  const ended = new Promise<number | null>((done) => daemon.once('close', done));
  try {
    const limit = Date.now() + START_LIMIT_MS;
    while (!existsSync(dir.join('d.sock'))) {
      assert.ok(daemon.exitCode === null && Date.now() < limit, 'the daemon did not start');
      await sleep(50);
    }
    const locals = ['context', 'dockerfile'].flatMap((name) => ['--local', `${name}=${dir.join('context')}`]);
    const output = ['--output', `type=local,dest=${dir.join('out')}`];
    const args = ['--addr', address, 'build', '--frontend', 'dockerfile.v0', ...locals, ...output];
    const built = await run(dir.join('bin/buildctl'), args, options);
    assert.equal(built.code, 0, built.stderr);
    assert.equal(readFileSync(dir.join('out/made'), 'utf8'), 'from a step\n');
    daemon.kill('SIGTERM');
    assert.equal(await ended, 0);
  } finally {
    daemon.kill('SIGKILL');
    await ended;
  }
});
