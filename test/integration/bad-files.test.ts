// Contexts with files that are none, and disks without room.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { Daemon, Registry, TempDir } from './harness.ts';
import { eventually, processesInside, stateOf } from './state.ts';

let registry: Registry;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

test('sockets and FIFOs of a context are not opened: nobody waits for them', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const context = dir.write({
    'odd/Dockerfile':
      'FROM busybox AS b\nCOPY . /all\nRUN ls -l /all > /list\nFROM scratch\nCOPY --from=b /list /\n',
    'odd/file': 'plain',
  });
  execFileSync('mkfifo', [`${context}/odd/fifo`]);
  execFileSync('mknod', [`${context}/odd/device`, 'c', '1', '3']);
  execFileSync('ln', ['-s', '/nowhere', `${context}/odd/dangling`]);
  execFileSync('ln', ['-s', 'loop', `${context}/odd/loop`]);
  const server = createServer().listen(`${context}/odd/socket`);
  try {
    const out = dir.join('odd-out');
    await daemon.build(`${context}/odd`, ['--output', `type=local,dest=${out}`]);
    const list = readFileSync(`${out}/list`, 'utf8');
    assert.match(list, /^-.* file$/m);
    assert.match(list, /^p.* fifo$/m);
    assert.match(list, /^l.* dangling -> \/nowhere$/m);
    assert.match(list, /^l.* loop -> loop$/m);
    assert.match(list, /^-.* 0 .* socket$/m); // an empty file: what other clients make of it, too
  } finally {
    server.close();
  }
});

test('a file that cannot be read is named, and the daemon goes on', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const context = dir.write({
    'closed/Dockerfile': 'FROM scratch\nCOPY . /\n',
    'closed/a': 'readable',
  });
  // Files of /proc that even root cannot read stand for those of other users.
  mkdirSync(`${context}/closed/sub`);
  execFileSync('mount', ['--bind', '/proc/self/mem', makeFile(`${context}/closed/sub/unreadable`)]);
  try {
    const { code, stderr } = await daemon.tryBuild(`${context}/closed`);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /error: .*unreadable/);
    assert.doesNotMatch(stderr, /TypeError|undefined/);
  } finally {
    execFileSync('umount', [`${context}/closed/sub/unreadable`]);
  }
  rmSync(`${context}/closed/sub`, { recursive: true });
  await daemon.build(`${context}/closed`);
  assert.doesNotMatch(daemon.log(), /level=error/);
});

function makeFile(path: string): string {
  execFileSync('touch', [path]);
  return path;
}

test('names and contexts that are not there', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const context = dir.write({ 'missing/Dockerfile': 'FROM scratch\nCOPY absent /\n', 'empty/x': '' });
  const copy = await daemon.tryBuild(`${context}/missing`);
  assert.equal(copy.code, 1);
  assert.match(copy.stderr, /error: .*absent.*not found/);
  const noDockerfile = await daemon.tryBuild(`${context}/empty`);
  assert.equal(noDockerfile.code, 1);
  assert.match(noDockerfile.stderr, /error: .*Dockerfile: no such file or directory/);
  const noContext = await daemon.tryBuild(`${context}/nowhere`);
  assert.equal(noContext.code, 1);
  assert.match(noContext.stderr, /error: .*nowhere/);
});

test('a full disk fails the build that fills it; with room again the daemon goes on', async () => {
  const mount = dir.join('small');
  mkdirSync(mount);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mount]);
  try {
    await using daemon = await Daemon.start({ config: registry.config, root: `${mount}/root` });
    dir.write({ 'first/Dockerfile': 'FROM busybox\nRUN true\n' });
    await daemon.build(dir.join('first'));
    const before = stateOf(daemon);
    const fill = async (name: string, dockerfile: string, expected: RegExp): Promise<void> => {
      dir.write({ [`${name}/Dockerfile`]: dockerfile });
      const { code, stderr } = await daemon.tryBuild(dir.join(name));
      assert.equal(code, 1, stderr);
      assert.match(stderr, expected);
      assert.doesNotMatch(stderr, /TypeError|undefined/);
      await eventually(() => {
        const now = stateOf(daemon);
        assert.deepEqual(now.mounts, before.mounts);
        assert.deepEqual(now.processes, before.processes);
        assert.deepEqual(now.temporaryFiles, before.temporaryFiles);
        assert.ok(freeBytes(mount) > 12 << 20, `${freeBytes(mount)} bytes are free`);
      });
    };
    await fill(
      'step',
      'FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100\n',
      /no space left on device/i,
    );
    dir.write({ 'context/big': Buffer.alloc(40 << 20, 1) });
    await fill('context', 'FROM scratch\nCOPY big /\n', /no space left on device/i);
    const layer = Buffer.concat([tarOfNoise(), Buffer.alloc(1024)]);
    const image = await registry.pushImage('big', 'latest', [layer]);
    await fill('image', `FROM ${image}\nCOPY Dockerfile /\n`, /no space left on device/i);
    dir.write({ 'after/Dockerfile': 'FROM busybox\nRUN echo after > /after\n' });
    await daemon.build(dir.join('after'));
    assert.equal(await daemon.stop(), 0);
    assert.deepEqual(processesInside(`${mount}/root`), []);
  } finally {
    execFileSync('umount', [mount]);
  }
});

function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

function tarOfNoise(): Buffer {
  const folder = dir.write({ 'noise/file': Buffer.alloc(40 << 20, 2) });
  return execFileSync('tar', ['-C', `${folder}/noise`, '-c', 'file'], { maxBuffer: 64 << 20 });
}
