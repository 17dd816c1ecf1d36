// Outputs as users see them: folders of several platforms, mirrored folders, image layouts in folders.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { after, before, test } from 'node:test';
import { checkOutputs } from './checked-outputs.ts';
import { Daemon, OUR_DAEMON, TempDir } from './harness.ts';

let daemon: Daemon;
const dir = new TempDir();
const PLATFORMS = ['--opt', 'platform=linux/amd64,linux/arm64'];

before(async () => {
  daemon = await Daemon.start();
  dir.write({ 'ctx/Dockerfile': 'FROM scratch\nARG TARGETARCH\nCOPY files/$TARGETARCH /\n' });
  dir.write({ 'ctx/files/amd64/amd64': 'a', 'ctx/files/arm64/arm64': 'b' });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

function folder(name: string): string {
  mkdirSync(dir.join(name, 'stale'), { recursive: true });
  writeFileSync(dir.join(name, 'old'), '');
  return dir.join(name);
}

function tree(path: string): string[] {
  return (readdirSync(path, { recursive: true }) as string[]).sort();
}

test('a folder is written beside what is there, with one status per platform', async () => {
  const out = folder('copy');
  const { stderr } = await daemon.build(dir.join('ctx'), [
    ...PLATFORMS,
    '--output',
    `type=local,dest=${out}`,
  ]);
  assert.match(stderr, /copying files linux\/amd64 /);
  assert.match(stderr, /copying files linux\/arm64 /);
  const built = ['linux_amd64', 'linux_amd64/amd64', 'linux_arm64', 'linux_arm64/arm64'];
  assert.deepEqual(tree(out), [...built, 'old', 'stale']);
  assert.equal(readFileSync(`${out}/linux_arm64/arm64`, 'utf8'), 'b');
});

test('a folder of many files arrives as it was made, times of its directories included', async () => {
  dir.write({ 'large/Dockerfile': 'FROM scratch\nCOPY tree /\n' });
  const from = dir.join('large/tree');
  for (let i = 0; i < 40; i++) {
    mkdirSync(`${from}/a/b/${i}`, { recursive: true });
    for (let k = 0; k < 40; k++) writeFileSync(`${from}/a/b/${i}/${k}`, `${i} ${k}`);
    symlinkSync('0', `${from}/a/b/${i}/link`);
    utimesSync(`${from}/a/b/${i}`, 1000 + i, 1000 + i);
  }
  for (const name of ['a/b', 'a']) utimesSync(`${from}/${name}`, 5000, 5000);
  const out = dir.join('large-out');
  await daemon.build(dir.join('large'), ['--output', `type=local,dest=${out}`]);
  assert.deepEqual(tree(out), tree(from));
  for (const path of tree(from)) {
    const [want, got] = [lstatSync(`${from}/${path}`), lstatSync(`${out}/${path}`)];
    assert.equal(got.mode, want.mode, path);
    if (!got.isSymbolicLink()) assert.equal(got.mtimeMs, want.mtimeMs, path);
    if (got.isFile())
      assert.equal(readFileSync(`${out}/${path}`, 'utf8'), readFileSync(`${from}/${path}`, 'utf8'));
  }
});

test('a folder is mirrored: what the result does not have goes', async () => {
  const out = folder('mirror');
  const output = ['--output', `type=local,dest=${out},mode=delete`];
  await daemon.build(dir.join('ctx'), [...PLATFORMS, ...output]);
  assert.deepEqual(tree(out), ['linux_amd64', 'linux_amd64/amd64', 'linux_arm64', 'linux_arm64/arm64']);
  // Upstream's client fails over a folder that went while it looked.
  if (!OUR_DAEMON) return;
  await daemon.build(dir.join('ctx'), [
    ...PLATFORMS,
    '--output',
    `type=local,dest=${out},mode=delete,platform-split=false`,
  ]);
  assert.deepEqual(tree(out), ['amd64', 'arm64']);
  await daemon.build(dir.join('ctx'), ['--opt', 'platform=linux/arm64', ...output]);
  assert.deepEqual(tree(out), ['arm64']);
});

test('platforms that have the same file do not fit into one folder', async () => {
  dir.write({ 'same/Dockerfile': 'FROM scratch\nCOPY Dockerfile /f\n' });
  const out = dir.join('same-out');
  const output = ['--output', `type=local,dest=${out},platform-split=false`];
  const { code, stderr } = await daemon.tryBuild(dir.join('same'), [...PLATFORMS, ...output]);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /cannot overwrite f from linux\/(amd64 with linux\/arm64|arm64 with linux\/amd64) when split option is disabled/,
  );
  if (OUR_DAEMON) assert.ok(!existsSync(`${out}/f`));
});

test('an archive of several platforms has a folder for each, whatever platform-split says', async () => {
  for (const split of ['', ',platform-split=false']) {
    const out = dir.join('split.tar');
    await daemon.build(dir.join('ctx'), [...PLATFORMS, '--output', `type=tar,dest=${out}${split}`]);
    const names = execFileSync('tar', ['-tf', out]).toString().trim().split('\n');
    assert.deepEqual(names, ['linux_amd64/', 'linux_amd64/amd64', 'linux_arm64/', 'linux_arm64/arm64']);
  }
});

test('an image layout in a folder, without a tar', async () => {
  const out = dir.join('layout');
  for (const platforms of [[], PLATFORMS]) {
    const output = ['--output', `type=oci,tar=false,name=example.com/x:1,dest=${out}`];
    await daemon.build(dir.join('ctx'), [...platforms, ...output]);
  }
  const index = JSON.parse(readFileSync(`${out}/index.json`, 'utf8'));
  const blob = (digest: string) => readFileSync(`${out}/blobs/sha256/${digest.slice(7)}`);
  const image = JSON.parse(blob(index.manifests.at(-1).digest).toString());
  assert.deepEqual(
    image.manifests.map((m: { platform: { architecture: string } }) => m.platform.architecture),
    ['amd64', 'arm64'],
  );
  const manifest = JSON.parse(blob(image.manifests[1].digest).toString());
  const listing = execFileSync('tar', ['-tz'], { input: blob(manifest.layers[0].digest) }).toString();
  assert.match(listing, /^arm64$/m);
});

test('what the tests build is looked into: a damaged layer does not pass', async () => {
  const out = dir.join('damaged');
  const output = ['--output', `type=oci,tar=false,dest=${out}`];
  await daemon.build(dir.join('ctx'), output);
  const blobs = readdirSync(`${out}/blobs/sha256`).map((name) => `${out}/blobs/sha256/${name}`);
  const layer = blobs.find((path) => readFileSync(path).readUInt16BE() === 0x1f8b) ?? '';
  const bytes = readFileSync(layer);
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(layer, bytes);
  await assert.rejects(checkOutputs(output), /damaged.*broken image/);
});

test('a result that is not what was asked for is told', async () => {
  dir.write({ 'plain/Dockerfile': 'FROM scratch\nCOPY Dockerfile /\n' });
  const { stderr } = await daemon.build(dir.join('plain'), ['--opt', 'platform=linux/arm64']);
  assert.doesNotMatch(stderr, /does not match/);
});
