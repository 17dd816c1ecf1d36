// Steps of another architecture: with an emulator that the daemon mounts, with one that the kernel knows, with none.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { Daemon, Registry, TempDir } from './harness.ts';

/** Put there by scripts/setup.sh --tests. */
const FOREIGN = resolve(import.meta.dirname, '../../.cache/foreign');
const EMULATOR = join(FOREIGN, 'qemu-aarch64');
/** 64 bits, little-endian, executable, for arm64: what the kernel compares the head of a program with. */
const MAGIC = '\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00';
const MASK =
  '\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff';

let registry: Registry;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  mkdirSync(dir.join('root/bin'), { recursive: true });
  execFileSync('cp', [join(FOREIGN, 'busybox'), dir.join('root/bin/busybox')]);
  for (const name of ['sh', 'uname', 'cat']) symlinkSync('busybox', dir.join('root/bin', name));
  const layer = execFileSync('tar', ['-C', dir.join('root'), '-c', '.'], { maxBuffer: 64 << 20 });
  await registry.pushImage('library/foreign', 'latest', [layer], 'arm64');
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

function context(name: string, dockerfile: string): string {
  dir.write({ [`${name}/Dockerfile`]: dockerfile });
  return dir.join(name);
}

const ARM64 = ['--opt', 'platform=linux/arm64'];
const ALREADY = 'this machine has an emulator of arm64 already';

async function platforms(daemon: Daemon): Promise<string> {
  return (await daemon.buildctl(['debug', 'workers'])).stdout.toString();
}

test('buildkit-qemu-aarch64 in the PATH runs steps of arm64', async (t) => {
  mkdirSync(dir.join('tools'));
  symlinkSync(EMULATOR, dir.join('tools/buildkit-qemu-aarch64'));
  const env = { PATH: `${dir.join('tools')}:${process.env.PATH}` };
  await using daemon = await Daemon.start({ config: registry.config, env });
  if (/arm64/.test(await platforms(daemon))) return t.skip(ALREADY);
  const path = context(
    'mounted',
    'FROM foreign AS b\nRUN ["/bin/busybox", "uname", "-m"]\nRUN echo "shell $0" > /made\n' +
      'FROM scratch\nCOPY --from=b /made /\n',
  );
  const output = ['--output', `type=local,dest=${dir.join('out')}`];
  const { stderr } = await daemon.build(path, [...ARM64, ...output]);
  assert.match(stderr, /^#\d+ \d+\.\d+ aarch64$/m);
  assert.equal(readFileSync(dir.join('out/made'), 'utf8'), 'shell /bin/sh\n');
  const failing = context('failing', 'FROM foreign\nRUN exit 3\n');
  assert.match(
    (await daemon.tryBuild(failing, ARM64)).stderr,
    /process "\/dev\/\.buildkit_qemu_emulator \/bin\/sh -c exit 3" did not complete successfully: exit code: 3/,
  );
});

test('without an emulator the step says what it lacks, and the log names it', async (t) => {
  await using daemon = await Daemon.start({ config: registry.config });
  if (/arm64/.test(await platforms(daemon))) return t.skip(ALREADY);
  const path = context('none', 'FROM foreign\nRUN true\n');
  const { code, stderr } = await daemon.tryBuild(path, ARM64);
  assert.equal(code, 1);
  assert.match(stderr, /did not complete successfully/);
  assert.match(stderr, /exec format error/i);
  assert.match(daemon.log(), /buildkit-qemu-aarch64.*executable file not found in \$PATH/);
  const level = context('level', 'FROM busybox\nRUN true\n');
  assert.match(
    (await daemon.tryBuild(level, ['--opt', 'platform=linux/amd64/v9'])).stderr,
    /no support for running processes with linux\/amd64\/v9 platform, supported: linux\/amd64/,
  );
});

test('an emulator that the kernel knows is found by trying, also when it comes late', async (t) => {
  mkdirSync(dir.join('binfmt'));
  try {
    execFileSync('mount', ['-t', 'binfmt_misc', 'none', dir.join('binfmt')], { stdio: 'pipe' });
  } catch {
    return t.skip('this kernel has no binfmt_misc');
  }
  t.after(() => execFileSync('umount', [dir.join('binfmt')]));
  forgetOld(dir.join('binfmt'));
  await using daemon = await Daemon.start({
    config: `platforms = ["linux/amd64"]\n${registry.config}[system]\nplatformsCacheMaxAge = "1ms"\n`,
  });
  if (/arm64/.test(await platforms(daemon))) return t.skip(ALREADY);
  const name = `bkt-test-${process.pid}`;
  const register = (flags: string): void =>
    writeFileSync(dir.join('binfmt/register'), `:${name}:M::${MAGIC}:${MASK}:${EMULATOR}:${flags}`);
  const unregister = (): void => writeFileSync(dir.join('binfmt', name), '-1');
  register('');
  try {
    assert.doesNotMatch(await platforms(daemon), /arm64/, 'out of sight in a container');
  } finally {
    unregister();
  }
  register('F');
  try {
    assert.match(await platforms(daemon), /linux\/amd64,.*linux\/arm64/);
    const path = context('kernel', 'FROM foreign\nRUN /bin/uname -m && /bin/cat /proc/self/comm\n');
    assert.match((await daemon.build(path, ARM64)).stderr, /^#\d+ \d+\.\d+ aarch64$/m);
  } finally {
    unregister();
  }
});

/** What a test that was killed has left registered. */
function forgetOld(binfmt: string): void {
  for (const name of readdirSync(binfmt)) {
    const pid = /^bkt-test-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) writeFileSync(join(binfmt, name), '-1');
  }
}
