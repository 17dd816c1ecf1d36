// Clients and daemons that end in the middle of a transfer.
import assert from 'node:assert/strict';
import { execFileSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { startFaulty } from '../../src/testing/registry.ts';
import { busyboxLayer, Daemon, digest, Registry, type RunResult, TempDir } from './harness.ts';
import { type DaemonState, eventually, processesInside, processesWith, stateOf } from './state.ts';

let registry: Registry;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  mkdirSync(dir.join('large'));
  // Enough that neither side has it all in its buffers.
  for (let i = 0; i < 8; i++) dir.write({ [`large/file-${i}`]: randomBytes(16 << 20) });
  dir.write({ 'large/Dockerfile': 'FROM scratch\nCOPY file-* /\n' });
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

interface Started {
  readonly client: ChildProcess;
  readonly result: Promise<RunResult>;
}

/** Starts a build and waits until its output has `mark`. */
async function startUntil(
  daemon: Daemon,
  context: string,
  mark: RegExp,
  args: readonly string[] = [],
): Promise<Started> {
  const seen = Promise.withResolvers<void>();
  let text = '';
  let client: ChildProcess | undefined;
  const result = daemon.tryBuild(context, args, {
    during: (child) => (client = child),
    onStderr: (part) => {
      text += part;
      if (mark.test(text)) seen.resolve();
    },
  });
  await Promise.race([seen.promise, result.then((r) => assert.fail(`it ended before ${mark}: ${r.stderr}`))]);
  assert.ok(client);
  return { client, result };
}

/** What a build that came to nothing may not leave. */
async function assertNothingLeft(daemon: Daemon, before: DaemonState): Promise<void> {
  await eventually(() => {
    const now = stateOf(daemon);
    assert.deepEqual(now.mounts, before.mounts);
    assert.deepEqual(now.processes, before.processes);
    assert.deepEqual(now.temporaryFiles, before.temporaryFiles);
    assert.ok(now.temporaryLeases <= Math.max(1, before.temporaryLeases));
  });
}

async function assertStopsCleanly(daemon: Daemon): Promise<void> {
  assert.equal(await daemon.stop(), 0, daemon.log());
  assert.deepEqual(processesInside(daemon.root), []);
  assert.doesNotMatch(daemon.log(), /refs are still held|level=error/);
}

test('a client that vanishes while it sends its context', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const before = stateOf(daemon);
  const { client, result } = await startUntil(daemon, dir.join('large'), /transferring context: [1-9]/);
  client.kill('SIGKILL');
  await result;
  await assertNothingLeft(daemon, before);
  await daemon.build(dir.join('large'));
  await assertStopsCleanly(daemon);
});

test('a daemon that is stopped while a context comes', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const { result } = await startUntil(daemon, dir.join('large'), /transferring context: [1-9]/);
  await assertStopsCleanly(daemon);
  const { code, stderr } = await result;
  assert.equal(code, 1);
  assert.match(stderr, /\nerror: /);
  rmSync(daemon.root, { recursive: true });
});

test('a daemon killed while a context comes starts again on what it has', async () => {
  const root = dir.join('killed-root');
  const first = await Daemon.start({ config: registry.config, root });
  await using _first = first;
  const { result } = await startUntil(first, dir.join('large'), /transferring context: [1-9]/);
  await first.stop('SIGKILL');
  const { code, stderr } = await result;
  assert.equal(code, 1);
  assert.match(stderr, /error: /);
  await using second = await Daemon.start({ config: registry.config, root });
  await second.build(dir.join('large'));
  await assertStopsCleanly(second);
});

test('a client that vanishes, or a daemon that is stopped, while an image is pulled', async () => {
  const layer = Buffer.concat([
    busyboxLayer().subarray(0, -1024),
    execFileSync('tar', ['-C', dir.join('large'), '-c', 'file-0'], { maxBuffer: 64 << 20 }),
  ]);
  await registry.pushImage('slow', 'latest', [layer]);
  let stalled = 0;
  // The layer never comes to an end.
  await using slow = await startFaulty(registry.host, (request) => {
    if (!request.url.endsWith(digest(layer))) return undefined;
    stalled++;
    return { silent: true };
  });
  const config = `${registry.config}[registry."${slow.host}"]\nhttp = true\n`;
  await using daemon = await Daemon.start({ config });
  const context = dir.write({ 'pull/Dockerfile': `FROM ${slow.host}/slow\nRUN true\n` });
  const before = stateOf(daemon);
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const had = stalled;
    const { client, result } = await startUntil(daemon, `${context}/pull`, /DONE.*\n/);
    await eventually(() => assert.ok(stalled > had));
    client.kill(signal);
    assert.notEqual((await result).code, 0);
    await assertNothingLeft(daemon, before);
  }
  const had = stalled;
  const { result } = await startUntil(daemon, `${context}/pull`, /DONE.*\n/);
  await eventually(() => assert.ok(stalled > had));
  await assertStopsCleanly(daemon);
  assert.equal((await result).code, 1);
});

test('a client that vanishes while it takes its result', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  await daemon.build(dir.join('large'));
  const before = stateOf(daemon);
  for (const type of ['local', 'oci']) {
    const dest = dir.join(`result-${type}`);
    const output = ['--output', `type=${type},dest=${dest}`];
    const { client, result } = await startUntil(
      daemon,
      dir.join('large'),
      /exporting|sending|copying files/,
      output,
    );
    client.kill('SIGKILL');
    await result;
    await assertNothingLeft(daemon, before);
  }
  await daemon.build(dir.join('large'), ['--output', `type=tar,dest=${dir.join('whole.tar')}`]);
  assert.ok(existsSync(dir.join('whole.tar')));
  await assertStopsCleanly(daemon);
});

test('SIGKILL to the runtime of a step fails that build, and its processes end', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const word = String(20_000 + (process.pid % 10_000));
  const context = dir.write({ 'runtime/Dockerfile': `FROM busybox\nRUN echo started; sleep ${word}\n` });
  const before = stateOf(daemon);
  const { result } = await startUntil(daemon, `${context}/runtime`, /\d started/);
  const runtime = runtimesBelow(daemon.pid);
  assert.equal(runtime.length, 1);
  for (const pid of runtime) process.kill(pid, 'SIGKILL');
  const { code, stderr } = await result;
  assert.equal(code, 1);
  assert.match(stderr, /did not complete successfully/);
  await eventually(() => assert.deepEqual(processesWith(word), []));
  await assertNothingLeft(daemon, before);
  await assertStopsCleanly(daemon);
});

/** Child processes of the daemon that are an OCI runtime. */
function runtimesBelow(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter(Boolean)
    .map(Number);
  return children.filter((child) => /crun|runc/.test(readFileSync(`/proc/${child}/comm`, 'utf8')));
}

test('what a killed daemon has left running or lying about is gone with the next start', async () => {
  const root = dir.join('left-root');
  // A repository that never answers, and an agent of the client.
  const asked = Promise.withResolvers<void>();
  const silent = createServer(() => asked.resolve());
  const agent = createServer(() => {});
  await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
  const socket = dir.join('agent.sock');
  await new Promise<void>((done) => agent.listen(socket, done));
  try {
    const { port } = silent.address() as AddressInfo;
    const context = dir.write({
      'left/Dockerfile': 'FROM busybox\nRUN --mount=type=ssh echo begun; sleep 1000\n',
    });
    await using first = await Daemon.start({ config: registry.config, root });
    const options = ['--frontend', 'dockerfile.v0', '--opt', `context=http://127.0.0.1:${port}/x.git`];
    const git = first.buildctl(['build', ...options]);
    const step = await startUntil(first, `${context}/left`, /begun/, ['--ssh', `default=${socket}`]);
    await asked.promise;
    const isGit = (pid: number): boolean =>
      readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`127.0.0.1:${port}`);
    const running = (): number[] => childrenOf('git').filter(isGit);
    const sockets = (): string[] =>
      readdirSync(`${root}/buildkit-ts/run`).filter((name) => /^ssh-/.test(name));
    assert.ok(running().length > 0);
    assert.equal(sockets().length, 1);
    await first.stop('SIGKILL');
    await Promise.all([git, step.result]);
    await using second = await Daemon.start({ config: registry.config, root });
    await eventually(() => assert.deepEqual(running(), []));
    assert.deepEqual(sockets(), []);
    assert.match(second.log(), /ended programs that an earlier run has left/);
    await assertStopsCleanly(second);
  } finally {
    silent.close();
    silent.closeAllConnections();
    agent.close();
  }
});

/** Processes that have a word in the name of their program. */
function childrenOf(word: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, 'utf8').includes(word);
      } catch {
        return false; // it has ended
      }
    });
}
