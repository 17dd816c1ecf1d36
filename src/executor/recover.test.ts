import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../base/log.ts';
import { mountsUnder } from '../sys/mountinfo.ts';
import { enterMountNamespace } from '../sys/namespace.ts';
import { spawn } from '../sys/spawn.ts';
import { createRuntimeExecutor } from './executor.ts';

await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });

const base = mkdtempSync(join(tmpdir(), 'recover-'));
after(() => rmSync(base, { recursive: true }));
const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

// Of this test file: others have processes that sleep, too.
const SECONDS = 100_000 + process.pid;
const SLEEPER = `sleep\0${SECONDS}\0`;

/** A daemon that runs one endless container and is then killed. */
async function crashedDaemon(dir: string): Promise<number> {
  const image = join(base, 'image');
  mkdirSync(join(image, 'bin'), { recursive: true });
  copyFileSync('/bin/busybox', join(image, 'bin/busybox'));
  for (const name of ['sh', 'sleep']) symlinkSync('busybox', join(image, 'bin', name));
  writeFileSync(
    join(base, 'daemon.ts'),
    `import { enterMountNamespace } from ${url('../sys/namespace.ts')};
     import { createRuntimeExecutor } from ${url('./executor.ts')};
     import { hostNetwork } from ${url('./network.ts')};
     import { silentLogger } from ${url('../base/log.ts')};
     await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });
     const executor = createRuntimeExecutor({ dir: ${JSON.stringify(dir)}, searchPath: process.env.PATH,
       networks: { unset: hostNetwork }, log: silentLogger });
     const bind = (source) => ({ mount: async () => ({ mounts: [{ type: 'bind', source, options: ['rbind'] }], release: async () => {} }) });
     await executor.run({ id: 'left1', root: { source: bind(${JSON.stringify(image)}), readonly: false },
       mounts: [{ dest: '/part', selector: 'bin', readonly: true, source: bind(${JSON.stringify(image)}) }],
       meta: { args: ['sh', '-c', 'echo up; exec sleep ${SECONDS}'], env: [], cwd: '/' } },
       { signal: new AbortController().signal, onStdout: () => process.stdout.write('up') });`,
  );
  const env = { PATH: process.env.PATH ?? '' };
  const args = ['node', join(base, 'daemon.ts')];
  const daemon = spawn({ file: process.execPath, args, env, stdout: 'pipe' });
  for await (const _ of daemon.stdout!) break;
  const pid = sleepers()[0] ?? 0;
  daemon.kill('SIGKILL');
  await daemon.exited;
  return pid;
}

/** What sleeps for so long. */
function sleepers(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => commandLine(pid) === SLEEPER)
    .map(Number);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

test('the next start kills what a killed daemon left, unmounts and clears its bundles', async () => {
  const dir = join(base, 'executor');
  const pid = await crashedDaemon(dir);
  assert.ok(pid > 0);
  assert.equal(commandLine(String(pid)), SLEEPER, 'the container outlives its daemon');
  assert.ok(existsSync(join(dir, 'left1/config.json')));
  const options = { dir, searchPath: process.env.PATH ?? '', networks: {}, log: silentLogger };
  const executor = createRuntimeExecutor(options);
  await executor.recover();
  for (let i = 0; i < 50 && commandLine(String(pid)) !== ''; i++) await sleep(20);
  assert.equal(commandLine(String(pid)), '');
  assert.deepEqual(
    readdirSync(dir).sort(),
    ['hosts', 'resolv.conf', 'state'].filter((n) => existsSync(join(dir, n))),
  );
  assert.deepEqual(
    readdirSync(join(dir, 'state')).filter((name) => !name.startsWith('.')),
    [],
  );
  assert.deepEqual(mountsUnder(dir), []);
  for (const controller of readdirSync('/sys/fs/cgroup'))
    assert.equal(existsSync(join('/sys/fs/cgroup', controller, 'buildkit/left1')), false, controller);
  assert.ok(existsSync(join(base, 'image/bin/busybox')), 'what was mounted is untouched');
  await executor.recover();
});

test('a bundle that is half made goes too, one with foreign files stays', async () => {
  const dir = join(base, 'half');
  mkdirSync(join(dir, 'abc/rootfs'), { recursive: true });
  mkdirSync(join(dir, 'def/rootfs/precious'), { recursive: true });
  const executor = createRuntimeExecutor({
    dir,
    searchPath: process.env.PATH ?? '',
    networks: {},
    log: silentLogger,
  });
  await executor.recover();
  assert.equal(existsSync(join(dir, 'abc')), false);
  assert.equal(existsSync(join(dir, 'def/rootfs/precious')), true);
});
