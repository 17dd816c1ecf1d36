// How builds end: with their client, with the daemon, and by force.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import { BUILDKITD, Daemon, Registry, type RunResult, run, TempDir } from './harness.ts';
import { eventually, filesBelow, mountPoints, processesInside, processesWith, stateOf } from './state.ts';

let registry: Registry;

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
});

/** Seconds to sleep that no other process sleeps: what finds the step among all processes. */
let nextSleep = 40_000 + (process.pid % 10_000) * 5;

interface LongBuild {
  readonly word: string;
  readonly client: ChildProcess;
  readonly result: Promise<RunResult>;
}

/** Starts a build whose last step sleeps, and waits until it does. */
async function startLongBuild(
  daemon: Daemon,
  dir: TempDir,
  args: readonly string[] = [],
): Promise<LongBuild> {
  const word = String(nextSleep++);
  const context = dir.write({
    [`long-${word}/Dockerfile`]: `FROM busybox\nRUN echo first > /first\nRUN --mount=type=cache,target=/c echo half > /half; sleep ${word}\n`,
  });
  let client: ChildProcess | undefined;
  const result = daemon.tryBuild(`${context}/long-${word}`, args, { during: (child) => (client = child) });
  const started = eventually(() => assert.equal(processesWith(word).length > 0, true), 20_000);
  await Promise.race([started, result.then((r) => assert.fail(`the build ended: ${r.stderr}`))]);
  assert.ok(client);
  return { word, client, result };
}

async function assertBuilds(daemon: Daemon, dir: TempDir): Promise<void> {
  const context = dir.write({ 'short/Dockerfile': 'FROM busybox\nRUN echo works > /works\n' });
  await daemon.build(`${context}/short`);
}

test('SIGTERM while a step runs: the build is cancelled, nothing stays mounted or running', async () => {
  using dir = new TempDir();
  const daemon = await Daemon.start({ config: registry.config, root: dir.join('root') });
  await using _stop = daemon;
  assert.deepEqual(mountPoints(daemon.pid, daemon.root), []);
  const { word, result } = await startLongBuild(daemon, dir);
  assert.ok(mountPoints(daemon.pid, daemon.root).length > 0, 'the step has mounts');
  assert.equal(await daemon.stop('SIGTERM'), 0, daemon.log());
  const { code, stderr } = await result;
  assert.equal(code, 1);
  assert.match(stderr, /error: failed to solve: .*(cancell?ed|stopping)/);
  assert.deepEqual(processesWith(word), []);
  assert.deepEqual(mountPoints('self', daemon.root), []);
  assert.deepEqual(processesInside(dir.path), []);
  assert.doesNotMatch(daemon.log(), /refs are still held|level=error|clean-up failed/);
  rmSync(dir.join('root'), { recursive: true });
  assert.equal(existsSync(dir.join('root')), false);
});

test('SIGTERM while a client keeps its connection open ends cleanly', async () => {
  await using daemon = await Daemon.start();
  using client = connect(daemon.address);
  await client.info();
  assert.equal(await daemon.stop(), 0);
});

test('SIGTERM right after the client has vanished ends as cleanly', async () => {
  using dir = new TempDir();
  await using daemon = await Daemon.start({ config: registry.config, root: dir.join('root') });
  const { word, client } = await startLongBuild(daemon, dir);
  client.kill('SIGKILL');
  assert.equal(await daemon.stop('SIGTERM'), 0, daemon.log());
  assert.deepEqual(processesWith(word), []);
  assert.deepEqual(processesInside(dir.path), []);
  assert.doesNotMatch(daemon.log(), /refs are still held|level=error|clean-up failed/);
});

test('kill -9 while a step runs: the next start ends the step and clears up', async () => {
  using dir = new TempDir();
  const root = dir.join('root');
  const first = await Daemon.start({ config: registry.config, root });
  await using _first = first;
  await assertBuilds(first, dir);
  const before = stateOf(first);
  const { word, result } = await startLongBuild(first, dir);
  await first.stop('SIGKILL');
  assert.equal((await result).code, 1);
  assert.ok(processesWith(word).length > 0, 'the step has outlived the daemon');

  await using second = await Daemon.start({ config: registry.config, root });
  await eventually(() => assert.deepEqual(processesWith(word), []));
  await eventually(() => {
    const now = stateOf(second);
    // The finished first step and the two folders of the client stay; the half-made snapshot does not.
    assert.equal(now.temporaryLeases, 0); // deleted at start
    assert.deepEqual(now.mounts, before.mounts);
    assert.deepEqual(now.temporaryFiles, before.temporaryFiles);
    assert.deepEqual(findHalf(root), []);
  });
  const again = await second.build(dir.join('short'));
  assert.match(again.stderr, /RUN echo works > \/works\n#\d+ CACHED\n/);
  dir.write({ 'short/Dockerfile': 'FROM busybox\nRUN echo first > /first\nRUN echo next\n' });
  await second.build(dir.join('short'));
  assert.doesNotMatch(second.log(), /level=error/);
  assert.equal(await second.stop(), 0);
  rmSync(root, { recursive: true });
});

/** Files that the interrupted step wrote. */
function findHalf(root: string): string[] {
  return filesBelow(`${root}/buildkit-ts/snapshots`, '-name', 'half');
}

test('a client killed mid-build takes its step along, and nothing else', async () => {
  using dir = new TempDir();
  await using daemon = await Daemon.start({ config: registry.config });
  await assertBuilds(daemon, dir);
  for (let i = 0; i < 2; i++) {
    const before = stateOf(daemon);
    const { word, client } = await startLongBuild(daemon, dir);
    client.kill('SIGKILL');
    await eventually(() => assert.deepEqual(processesWith(word), []), 5000);
    await eventually(() => {
      assert.deepEqual(findHalf(daemon.root), []); // first: what is not there any more may be in the trash
      const now = stateOf(daemon);
      assert.deepEqual(now.mounts, before.mounts);
      assert.deepEqual(now.processes, before.processes);
      assert.deepEqual(now.temporaryFiles, before.temporaryFiles);
      assert.equal(now.temporaryLeases, before.temporaryLeases);
    });
  }
  await assertBuilds(daemon, dir);
});

test('SIGINT at the client cancels the build', async () => {
  using dir = new TempDir();
  await using daemon = await Daemon.start({ config: registry.config });
  const { word, client, result } = await startLongBuild(daemon, dir);
  client.kill('SIGINT');
  const { code, stderr } = await result;
  assert.equal(code, 1);
  assert.match(stderr, /error: .*context canceled/);
  await eventually(() => assert.deepEqual(processesWith(word), []), 5000);
});

test('SIGKILL to the process of a step fails that build only', async () => {
  using dir = new TempDir();
  await using daemon = await Daemon.start({ config: registry.config });
  const failOnce = async (): Promise<void> => {
    const { word, result } = await startLongBuild(daemon, dir);
    for (const pid of processesWith(word)) {
      // The shell that waits for it belongs to the step, too; the runtime outside has no such argument.
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'sleep') process.kill(pid, 'SIGKILL');
    }
    const { code, stderr } = await result;
    assert.equal(code, 1);
    assert.match(stderr, /did not complete successfully: exit code: 137\n/);
  };
  await failOnce();
  // What the first one left to be deleted is no part of what the second one may leave.
  const inTrash = (): boolean => stateOf(daemon).temporaryFiles.some((name) => name.startsWith('trash/'));
  await eventually(() => assert.equal(inTrash(), false));
  const before = stateOf(daemon);
  await failOnce();
  await eventually(() => {
    const now = stateOf(daemon);
    assert.deepEqual({ ...now, leases: 0, snapshots: 0 }, { ...before, leases: 0, snapshots: 0 });
  });
  await assertBuilds(daemon, dir);
});

test('a rebuild after a restart runs nothing', async () => {
  using dir = new TempDir();
  const root = dir.join('root');
  const context = dir.write({
    'c/Dockerfile': 'FROM busybox\nCOPY file /file\nRUN --mount=type=cache,target=/c cat /file > /copy\n',
    'c/file': 'content',
  });
  {
    await using first = await Daemon.start({ config: registry.config, root });
    await first.build(`${context}/c`);
  }
  await using second = await Daemon.start({ config: registry.config, root });
  const { stderr } = await second.build(`${context}/c`);
  assert.match(stderr, /COPY file \/file\n#\d+ CACHED\n/);
  assert.match(stderr, /RUN --mount=type=cache.*\n#\d+ CACHED\n/);
});

test('a second daemon on the same root is refused', async () => {
  using dir = new TempDir();
  await using daemon = await Daemon.start({ config: registry.config });
  const args = ['--root', daemon.root, '--addr', `unix://${dir.join('other.sock')}`];
  const { code, stderr } = await run(BUILDKITD, args);
  assert.equal(code, 1);
  assert.match(stderr, /could not lock .*buildkitd\.lock, another instance running\?/);
  assert.equal((await daemon.buildctl(['debug', 'workers'])).code, 0);
});

test('a state directory that cannot be made is a clear error, at once', async () => {
  const { code, stderr } = await run(BUILDKITD, [
    '--root',
    '/proc/buildkit-test/x',
    '--addr',
    'unix:///proc/x.sock',
  ]);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^buildkitd: could not make the state directory \/proc\/buildkit-test\/x: .*no such file/m,
  );
});
