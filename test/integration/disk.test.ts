// What the daemon keeps on its disk, and how it lets go of it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fillStore } from '../../src/testing/big-store.ts';
import { Daemon, TempDir } from './harness.ts';
import { eventually } from './state.ts';

interface UsageJson {
  readonly usageCount: number;
  readonly id: string;
  readonly size: number;
  readonly inUse: boolean;
  readonly description: string;
}

async function usage(daemon: Daemon): Promise<readonly UsageJson[]> {
  const { stdout } = await daemon.buildctl(['du', '--format', 'json']);
  return (JSON.parse(stdout.toString()) as UsageJson[] | null) ?? [];
}

test('garbage is collected by the policies of the configuration, and not where that is switched off', async () => {
  using dir = new TempDir();
  const root = dir.join('root');
  const context = dir.write({
    'a/Dockerfile': 'FROM scratch\nCOPY one /\nCOPY two /\n',
    'a/one': 'x'.repeat(100_000),
    'a/two': 'y'.repeat(100_000),
  });
  {
    await using daemon = await Daemon.start({ root, config: 'gc = false\n' });
    await daemon.build(`${context}/a`);
    assert.ok((await usage(daemon)).length >= 3);
    const { stdout } = await daemon.buildctl(['debug', 'workers', '--format', '{{json .}}']);
    assert.deepEqual(JSON.parse(stdout.toString())[0].gcPolicy, []);
  }
  const config = '[[worker.oci.gcpolicy]]\nall = true\nmaxUsedSpace = "150KB"\n';
  await using daemon = await Daemon.start({ root, config });
  const { stdout } = await daemon.buildctl(['debug', 'workers', '--verbose']);
  assert.match(stdout.toString(), /GC Policy rule#0:\n\s+All:\s+true\n\s+Maximum used space:\s+153\.6kB\n/);
  await eventually(async () => {
    const kept = await usage(daemon);
    const bytes = kept.reduce((sum, record) => sum + record.size, 0);
    assert.ok(bytes < 150 * 1024, JSON.stringify(kept));
  }, 30_000);
  assert.ok((await usage(daemon)).length > 0, 'it stops at the cap');
});

/** A file system of its own for a root directory. */
function mounted(dir: TempDir, megabytes: number): Disposable & { readonly path: string } {
  const path = dir.join('disk');
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', path]);
  return { path, [Symbol.dispose]: () => void execFileSync('umount', ['-l', path]) };
}

/** As `mounted`, with the blocks of a disk. */
function loopMounted(dir: TempDir, megabytes: number): ReturnType<typeof mounted> {
  const [path, image] = [dir.join('disk'), dir.join('disk.img')];
  mkdirSync(path);
  execFileSync('truncate', ['-s', `${megabytes}M`, image]);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  execFileSync('mount', ['-o', 'loop', image, path]);
  return { path, [Symbol.dispose]: () => void execFileSync('umount', ['-l', path]) };
}

function summary(text: string, name: string): number {
  const [, number, unit] =
    new RegExp(`^${name}:\\s+([\\d.]+)([kMG]?B)$`, 'm').exec(text) ?? assert.fail(text);
  return Number(number) * { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 }[unit as 'B'];
}

test('du with its line of metadata equals what the disk says', async () => {
  using dir = new TempDir();
  using disk = loopMounted(dir, 1024);
  await using daemon = await Daemon.start({ root: disk.path, config: 'gc = false\n' });
  const context = dir.write({
    'c/Dockerfile': `FROM scratch AS base
COPY --chmod=755 busybox /bin/sh
COPY --chmod=755 busybox /bin/dd
RUN dd if=/dev/zero of=/big bs=1M count=200
FROM base
COPY --link data /linked
COPY data /copied
RUN --mount=type=cache,target=/cache dd if=/dev/zero of=/cache/x bs=1M count=5
`,
    'c/busybox': readFileSync('/usr/bin/busybox'),
    'c/data': randomBytes(3_000_000),
  });
  const build = [`${context}/c`, ['--output', `type=oci,dest=${dir.join('image.tar')}`]] as const;
  await daemon.build(...build);
  const check = async (): Promise<string> => {
    const text = (await daemon.buildctl(['du'])).stdout.toString();
    const du = Number(execFileSync('du', ['-sxB1', disk.path]).toString().split('\t')[0]);
    const told = summary(text, 'Total') + summary(text, 'Metadata');
    assert.ok(Math.abs(told - du) < du * 0.02, `${text}\n${du}`);
    return text;
  };
  // What the build itself held goes a little after it.
  await eventually(async () => assert.ok(summary(await check(), 'Total') > 200e6));
  await daemon.buildctl(['prune', '--all']);
  await eventually(async () => assert.equal(summary(await check(), 'Total'), 0));
});

test('du --verbose says why a record stays', async () => {
  using dir = new TempDir();
  await using daemon = await Daemon.start();
  const context = dir.write({
    'c/Dockerfile': `FROM scratch
COPY --chmod=755 busybox /bin/sh
COPY --chmod=755 busybox /bin/sleep
RUN sleep 12345
`,
    'c/busybox': readFileSync('/usr/bin/busybox'),
  });
  let stop = (): void => {};
  const building = daemon.tryBuild(`${context}/c`, ['--ref-file', dir.join('ref')], {
    during: (child) => (stop = () => void child.kill()),
  });
  await eventually(async () => {
    const text = (await daemon.buildctl(['du', '--verbose'])).stdout.toString();
    const blocks = text.split('\n\n');
    const blockOf = (name: string): string => blocks.find((block) => block.includes(name)) ?? '';
    assert.match(blockOf('sleep 12345'), /^Kept:\s+locked: it is being written$/m);
    assert.match(blockOf('busybox /bin/sleep'), /^Kept:\s+in use by build \w+ \(.*busybox/m);
    assert.match(blockOf('busybox /bin/sleep'), /^Kept:\s+parent of \w+, which is in use$/m);
  }, 30_000);
  stop();
  await building;
  await eventually(async () => {
    const text = (await daemon.buildctl(['du', '--verbose'])).stdout.toString();
    assert.doesNotMatch(text, /^Kept:/m);
  });
});

test('a cached build uses its result, not what that was made of; --no-cache leaves no old cache directory', async () => {
  using dir = new TempDir();
  await using daemon = await Daemon.start();
  const context = dir.write({
    'c/Dockerfile': `FROM scratch
COPY --chmod=755 busybox /bin/busybox
RUN --mount=type=cache,target=/cache ["/bin/busybox", "touch", "/cache/x"]
COPY last /
`,
    'c/busybox': readFileSync('/usr/bin/busybox'),
    'c/last': '',
  });
  for (let i = 0; i < 3; i++) await daemon.build(`${context}/c`);
  const counts = async (): Promise<string[]> =>
    (await usage(daemon))
      .map(({ description, usageCount }) => `${/last|touch|busybox/.exec(description)} ${usageCount}`)
      .filter((text) => !text.startsWith('null'))
      .sort();
  // The step's directory has a record of its own, described by the same command.
  await eventually(async () =>
    assert.deepEqual(await counts(), ['busybox 1', 'busybox 1', 'busybox 1', 'last 3']),
  );
  await daemon.build(`${context}/c`, ['--no-cache']);
  await eventually(async () => {
    const dirs = (await usage(daemon)).filter(({ description }) => description.startsWith('cached mount'));
    assert.equal(dirs.length, 1);
  });
});

test('a hard limit holds while builds run: unused records go, and what does not fit fails with its reasons', async () => {
  using dir = new TempDir();
  using disk = mounted(dir, 400);
  await using daemon = await Daemon.start({ root: disk.path, config: 'gc = false\nhardLimit = "150MB"\n' });
  const context = (megabytes: number): string =>
    dir.write({
      'c/Dockerfile': `FROM scratch
COPY --chmod=755 busybox /bin/sh
COPY --chmod=755 busybox /bin/dd
RUN dd if=/dev/zero of=/file-${megabytes} bs=1M count=${megabytes}
`,
      'c/busybox': readFileSync('/usr/bin/busybox'),
    });
  const check = (): void => {
    const used = Number(execFileSync('du', ['-sxB1', disk.path]).toString().split('\t')[0]);
    assert.ok(used <= 150 * 2 ** 20, `${used} bytes`);
  };
  for (let megabytes = 30; megabytes < 36; megabytes++) {
    await daemon.build(`${context(megabytes)}/c`);
    check();
  }
  const { code, stderr } = await daemon.tryBuild(`${context(1000)}/c`);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /no space left on device for .*RUN dd.*: the ceiling of 157\.29MB \(worker\.oci\.hardLimit\)/,
  );
  await eventually(check);
  await daemon.build(`${context(37)}/c`);
  check();
  // More than is free, at the speed of memory.
  await daemon.build(`${context(100)}/c`);
  check();
  assert.match(daemon.log(), /steps wait while room is made on the disk/);
  assert.match(daemon.log(), /removed records to make room on the disk/);
});

test('hundreds of records: listed in pages, pruned by filter, gone from the disk', async () => {
  using dir = new TempDir();
  const root = dir.join('root');
  await fillStore(root, { records: 900, batch: 300 });
  await using daemon = await Daemon.start({ root, config: 'gc = false\n' });
  assert.equal((await usage(daemon)).length, 900);
  const snapshots = join(root, 'buildkit-ts/snapshots');
  const { stdout } = await daemon.buildctl([
    'prune',
    '--filter',
    'description~=/of batch 1$/',
    '--format',
    'json',
  ]);
  assert.equal(stdout.toString().trimEnd().split('\n').length, 300);
  assert.equal(readdirSync(snapshots).length, 600);
  const left = await usage(daemon);
  assert.ok(left.every(({ description }) => /of batch [02]$/.test(description)));
  assert.equal(left.length, 600);
});
