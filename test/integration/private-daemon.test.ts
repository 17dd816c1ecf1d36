// `buildctl build` where no daemon runs.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BUILDCTL, Daemon, OUR_DAEMON, Registry, run, TempDir } from './harness.ts';

const DEFAULT_SOCKET = '/run/buildkit/buildkitd.sock';
const dir = new TempDir();
const env = { BUILDKIT_ROOT: dir.join('root') };
let registry: Registry;
let skip: string | false = false;

before(async () => {
  if (!OUR_DAEMON) skip = 'another daemon is under test';
  else if (await answers(DEFAULT_SOCKET)) skip = 'a daemon runs at the default address';
  registry = await Registry.start();
  const image = await registry.pushBusybox();
  dir.write({
    'quick/Dockerfile': 'FROM scratch\nCOPY Dockerfile /x\n',
    'slow/Dockerfile': `FROM ${image}\nARG SECONDS\nRUN echo started; sleep $SECONDS; echo done\n`,
  });
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

async function answers(path: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  const socket = connect({ path });
  const answered = await new Promise<boolean>((done) => {
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
  socket.destroy();
  return answered;
}

/** Processes that work on our root. */
function daemons(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return command.includes('--exit-with-stdin') && command.includes(env.BUILDKIT_ROOT);
      } catch {
        return false; // it has just ended
      }
    })
    .map(Number);
}

async function allGone(): Promise<void> {
  for (let tries = 0; daemons().length > 0; tries++) {
    assert.ok(tries < 200, `still running: ${daemons().join(' ')}`);
    await sleep(100);
  }
  assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes(env.BUILDKIT_ROOT));
}

const slow = (seconds: number): string[] => [
  ...['build', '--progress', 'plain', '--no-cache', '--opt', `build-arg:SECONDS=${seconds}`],
  dir.join('slow'),
];

test('a build brings its own daemon and takes it along', async (t) => {
  if (skip) return t.skip(skip);
  const out = dir.join('out');
  const result = await run(BUILDCTL, ['build', '-o', `type=local,dest=${out}`, dir.join('quick')], { env });
  assert.equal(result.code, 0, result.stderr);
  assert.match(result.stderr, /^buildctl: no buildkitd answers, running a private one for this build\n/);
  assert.ok(existsSync(`${out}/x`));
  await allGone();
});

test('a private daemon allows what its build is allowed', async (t) => {
  if (skip) return t.skip(skip);
  const image = `${registry.host}/library/busybox:latest`;
  dir.write({ 'insecure/Dockerfile': `FROM ${image}\nRUN --security=insecure ls /dev/loop-control\n` });
  const args = ['build', '--progress', 'plain', dir.join('insecure')];
  const refused = await run(BUILDCTL, args, { env });
  assert.match(refused.stderr, /security\.insecure is not allowed/);
  const { code, stderr } = await run(BUILDCTL, [...args, '--allow', 'security.insecure'], { env });
  assert.equal(code, 0, stderr);
  await allGone();
});

test('a second build at the same time waits for the first', async (t) => {
  if (skip) return t.skip(skip);
  const first = run(BUILDCTL, slow(3), { env });
  while (daemons().length === 0) await sleep(50);
  await sleep(1000);
  const second = await run(BUILDCTL, ['build', dir.join('quick')], { env });
  assert.equal(second.code, 0, second.stderr);
  assert.match(second.stderr, /buildctl: another build uses the state directory, waiting for it to end\n/);
  assert.equal((await first).code, 0);
  await allGone();
});

test('the daemon ends with a client that is killed', async (t) => {
  if (skip) return t.skip(skip);
  const result = await run(BUILDCTL, slow(120), {
    env,
    during: async (child) => {
      while (daemons().length === 0) await sleep(50);
      await sleep(1500);
      child.kill('SIGKILL');
    },
  });
  assert.equal(result.code, null);
  await allGone();
});

test('a state directory of another daemon is left alone', async (t) => {
  if (skip) return t.skip(skip);
  await using daemon = await Daemon.start({ root: env.BUILDKIT_ROOT });
  const result = await run(BUILDCTL, ['build', dir.join('quick')], { env });
  assert.equal(result.code, 1);
  const said = `is in use by buildkitd with process id ${daemon.pid}`;
  assert.ok(result.stderr.includes(said), result.stderr);
  assert.match(result.stderr, /\nhint: name that daemon with --addr/);
});

test('a daemon that cannot start says why', async (t) => {
  if (skip) return t.skip(skip);
  mkdirSync(dir.join('no'), { recursive: true });
  dir.write({ 'no/file': '' });
  const result = await run(BUILDCTL, ['build', dir.join('quick')], {
    env: { BUILDKIT_ROOT: dir.join('no/file') },
  });
  assert.equal(result.code, 1);
  assert.match(result.stderr, /error: the private buildkitd could not start: .*no\/file/);
});
