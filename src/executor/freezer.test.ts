import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger } from '../base/log.ts';
import { enterMountNamespace } from '../sys/namespace.ts';
import { findExecutable, spawn } from '../sys/spawn.ts';
import { freezeCgroup, freezerFile, thawCgroup } from './cgroup.ts';
import { createRuntimeExecutor, type RuntimeExecutor } from './executor.ts';
import { hostNetwork } from './network.ts';

await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });

const base = mkdtempSync(join(tmpdir(), 'freezer-'));
after(() => rmSync(base, { recursive: true }));
const searchPath = process.env.PATH ?? '';
const image = join(base, 'image');
mkdirSync(join(image, 'bin'), { recursive: true });
copyFileSync('/bin/busybox', join(image, 'bin/busybox'));
for (const name of ['sh', 'usleep']) symlinkSync('busybox', join(image, 'bin', name));

const bind = (source: string) => ({
  mount: async () => ({ mounts: [{ type: 'bind', source, options: ['rbind'] }], release: async () => {} }),
});
/** Writes for as long as it lives, in a process of its own. */
const TICK = '(while :; do echo x >>/ticks; usleep 10000; done) & wait';
const ticks = (): number => statSync(join(image, 'ticks'), { throwIfNoEntry: false })?.size ?? 0;

async function until(done: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !done(); i++) await sleep(20);
  assert.ok(done());
}

/** Whether something writes. */
async function goesOn(): Promise<boolean> {
  const before = ticks();
  await sleep(200);
  return ticks() > before;
}

function start(executor: RuntimeExecutor, id: string, signal: AbortSignal): Promise<unknown> {
  const meta = { args: ['sh', '-c', TICK], env: [], cwd: '/' };
  const running = executor.run(
    { id, root: { source: bind(image), readonly: false }, mounts: [], meta },
    { signal },
  );
  return running.then(
    () => assert.fail('it has ended'),
    (error: unknown) => error,
  );
}

for (const binary of ['crun', 'runc'])
  test(`${binary}: containers stand still while paused, can be killed then, and go on`, {
    skip: !findExecutable(binary, searchPath) && 'not installed',
  }, async () => {
    const networks = { unset: hostNetwork };
    const executor = createRuntimeExecutor({
      dir: join(base, binary),
      binary,
      searchPath,
      networks,
      log: silentLogger,
    });
    const stop = [new AbortController(), new AbortController()] as const;
    const before = ticks();
    const first = start(executor, 'first', stop[0].signal);
    await until(() => ticks() > before);
    assert.equal(executor.pause(), true);
    assert.equal(await goesOn(), false);
    const second = start(executor, 'second', stop[1].signal);
    assert.equal(await goesOn(), false, 'none starts');
    executor.resume();
    assert.equal(await goesOn(), true);
    await until(() => existsSync(freezerFile('/buildkit/second').path));
    executor.pause();
    assert.equal(executor.pause(), true);
    assert.equal(await goesOn(), false);
    const killed = performance.now();
    stop[0].abort();
    await first;
    assert.ok(performance.now() - killed < 3000, 'killed while paused');
    assert.equal(await goesOn(), false, 'the other one waits on');
    executor.resume();
    assert.equal(await goesOn(), true);
    stop[1].abort();
    await second;
    executor.pause();
    const third = start(executor, 'third', AbortSignal.timeout(100));
    await third; // what waits for its start can be cancelled
    executor.resume();
    assert.equal(await goesOn(), false);
  });

const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

test('a daemon that is killed leaves nothing frozen; what is frozen all the same ends at the next start', async () => {
  const dir = join(base, 'killed');
  writeFileSync(
    join(base, 'daemon.ts'),
    `import { enterMountNamespace } from ${url('../sys/namespace.ts')};
     import { createRuntimeExecutor } from ${url('./executor.ts')};
     import { hostNetwork } from ${url('./network.ts')};
     import { silentLogger } from ${url('../base/log.ts')};
     import { statSync } from 'node:fs';
     import { setTimeout as sleep } from 'node:timers/promises';
     await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });
     const executor = createRuntimeExecutor({ dir: ${JSON.stringify(dir)}, searchPath: process.env.PATH,
       networks: { unset: hostNetwork }, log: silentLogger });
     const source = { mount: async () => ({ mounts: [{ type: 'bind', source: ${JSON.stringify(image)}, options: ['rbind'] }], release: async () => {} }) };
     const before = ${ticks()};
     void executor.run({ id: 'left2', root: { source, readonly: false }, mounts: [],
       meta: { args: ['sh', '-c', ${JSON.stringify(TICK)}], env: [], cwd: '/' } }, { signal: new AbortController().signal });
     while ((statSync(${JSON.stringify(join(image, 'ticks'))}, { throwIfNoEntry: false })?.size ?? 0) <= before) await sleep(20);
     executor.pause();
     process.stdout.write('paused');
     await sleep(60_000);`,
  );
  const args = ['node', join(base, 'daemon.ts')];
  const daemon = spawn({ file: process.execPath, args, env: { PATH: searchPath }, stdout: 'pipe' });
  for await (const _ of daemon.stdout!) break;
  assert.equal(await goesOn(), false);
  daemon.kill('SIGKILL');
  await daemon.exited;
  const paused = ticks();
  await until(() => ticks() > paused);
  freezeCgroup('/buildkit/left2');
  assert.equal(await goesOn(), false);
  const executor = createRuntimeExecutor({ dir, searchPath, networks: {}, log: silentLogger });
  const start = performance.now();
  await executor.recover();
  assert.ok(performance.now() - start < 4000);
  thawCgroup('/buildkit/left2');
  assert.equal(await goesOn(), false);
  assert.equal(existsSync(freezerFile('/buildkit/left2').path), false);
  assert.deepEqual(keepers(), []);
});

/** Processes of this test that still wait to thaw something. */
function keepers(): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return (
        /^\d+$/.test(pid) && /\bread -r line\b.*left2/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
      );
    } catch {
      return false; // ended meanwhile
    }
  });
}
