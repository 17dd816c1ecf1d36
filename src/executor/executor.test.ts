import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  lstatSync,
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
import { after, afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code } from '../base/errors.ts';
import { createLogger } from '../base/log.ts';
import type { Mount } from '../oci/mount.ts';
import { mountsUnder } from '../sys/mountinfo.ts';
import { enterMountNamespace } from '../sys/namespace.ts';
import { findExecutable } from '../sys/spawn.ts';
import { isCgroupV2 } from './cgroup.ts';
import { createRuntimeExecutor, type RuntimeExecutor } from './executor.ts';
import { hostNetwork, noNetwork } from './network.ts';
import {
  type ContainerMount,
  ExitError,
  exitCodeOf,
  type Mountable,
  type ProcessMeta,
  type RunIo,
} from './types.ts';

await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });

const base = mkdtempSync(join(tmpdir(), 'executor-'));
const rootDir = join(base, 'image');
mkdirSync(join(rootDir, 'bin'), { recursive: true });
mkdirSync(join(rootDir, 'etc'));
copyFileSync('/bin/busybox', join(rootDir, 'bin/busybox'));
for (const name of [
  'sh',
  'cat',
  'id',
  'ls',
  'true',
  'sleep',
  'grep',
  'stat',
  'mkdir',
  'touch',
  'mount',
  'ulimit',
])
  symlinkSync('busybox', join(rootDir, 'bin', name));
writeFileSync(join(rootDir, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n');
writeFileSync(
  join(rootDir, 'etc/group'),
  'root:x:0:\nann:x:1001:\ndocker:x:2000:bob,ann\nwheel:x:2001:ann\n',
);

const warnings: string[] = [];
const log = createLogger({ level: 'warn', format: 'text', write: (line) => warnings.push(line) });
const dir = join(base, 'executor');
const networks = { unset: hostNetwork, host: hostNetwork, none: noNetwork };
const executor = createRuntimeExecutor({ dir, searchPath: process.env.PATH ?? '', networks, log });
const idle = readdirSync(dir).sort();

after(() => rmSync(base, { recursive: true }));
afterEach(() => {
  assert.deepEqual(mountsUnder(base), [], 'mounts are left');
  assert.deepEqual(
    readdirSync(dir).sort(),
    [...new Set([...idle, 'resolv.conf', 'resolv-host.conf'])].filter((n) => existsSync(join(dir, n))).sort(),
  );
  assert.deepEqual(
    readdirSync(join(dir, 'state')).filter((n) => !n.startsWith('.')),
    [],
  );
  assert.deepEqual(warnings.splice(0), []);
});

let count = 0;

function overlay(lower = rootDir): Mountable & { readonly upper: string; open: number } {
  const at = join(base, `layer${count++}`);
  for (const name of ['upper', 'work']) mkdirSync(join(at, name), { recursive: true });
  const options = [`lowerdir=${lower}`, `upperdir=${at}/upper`, `workdir=${at}/work`];
  const source = {
    upper: join(at, 'upper'),
    open: 0,
    mount: async (readonly: boolean) => {
      source.open++;
      const mounts: Mount[] = readonly
        ? [{ type: 'bind', source: lower, options: ['rbind', 'ro'] }]
        : [{ type: 'overlay', source: 'overlay', options }];
      return { mounts, release: async () => void source.open-- };
    },
  };
  return source;
}

/** What a step left in its layer, beside the directories that the runtime mounts on. */
function layer(upper: string): string[] {
  const all = readdirSync(upper, { recursive: true, encoding: 'utf8' });
  return all.filter((name) => !['dev', 'proc', 'sys'].includes(name));
}

interface Outcome {
  out: string;
  err: string;
  upper: string;
}

async function run(
  script: string,
  meta: Partial<ProcessMeta> = {},
  more: {
    mounts?: ContainerMount[];
    root?: ReturnType<typeof overlay>;
    readonly?: boolean;
    io?: Partial<RunIo>;
    with?: RuntimeExecutor;
  } = {},
): Promise<Outcome> {
  const root = more.root ?? overlay();
  const outcome = { out: '', err: '', upper: root.upper };
  try {
    await (more.with ?? executor).run(
      {
        root: { source: root, readonly: more.readonly ?? false },
        mounts: more.mounts ?? [],
        meta: { args: ['sh', '-c', script], env: [], cwd: '/', ...meta },
      },
      {
        signal: new AbortController().signal,
        onStdout: (chunk) => void (outcome.out += Buffer.from(chunk).toString()),
        onStderr: (chunk) => void (outcome.err += Buffer.from(chunk).toString()),
        ...more.io,
      },
    );
  } finally {
    assert.equal(root.open, 0, 'root released');
  }
  return outcome;
}

test('output, environment, input and the written files of a step', async () => {
  const io = {
    stdin: (async function* () {
      yield Buffer.from('from ');
      yield Buffer.from('us\n');
    })(),
  };
  const { out, err, upper } = await run(
    'cat; echo $A $PATH; echo oops >&2; echo data >/made',
    { env: ['A=1'] },
    { io },
  );
  assert.equal(out, 'from us\n1 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n');
  assert.equal(err, 'oops\n');
  assert.equal(readFileSync(join(upper, 'made'), 'utf8'), 'data\n');
});

test('nobody else reads the spec of a step, which holds its secrets', async () => {
  let mode = 0;
  const onStarted = (): void => {
    const id = readdirSync(dir).find((name) => existsSync(join(dir, name, 'config.json')));
    mode = statSync(join(dir, id!, 'config.json')).mode & 0o777;
  };
  await run('true', { env: ['SECRET=x'] }, { io: { onStarted } });
  assert.equal(mode, 0o600);
});

test('large output arrives whole in chunks of at most 32 KiB, held back by a slow receiver', async () => {
  let total = 0;
  let largest = 0;
  const onStdout = async (chunk: Uint8Array): Promise<void> => {
    largest = Math.max(largest, chunk.length);
    total += chunk.length;
    await sleep(1);
  };
  await run('cat /bin/busybox', {}, { io: { onStdout } });
  assert.equal(total, statSync('/bin/busybox').size);
  assert.ok(largest <= 32 * 1024);
});

test('exit codes: the error carries it, listed ones are success', async () => {
  await assert.rejects(run('exit 7'), (error) => {
    assert.ok(error instanceof ExitError);
    assert.deepEqual([error.exitCode, error.message], [7, 'exit code: 7']);
    assert.deepEqual(error.details, [{ type: 'gatewayapi.ExitMessage', value: { Code: 7 } }]);
    return true;
  });
  await run('exit 7', { validExitCodes: [7, 9] });
  await assert.rejects(run('exit 0', { validExitCodes: [7] }), { exitCode: 0 });
});

test('the sandbox: capabilities, seccomp, masked and read-only paths, namespaces', async () => {
  const { out } = await run(`
    grep -E '^(Cap(Prm|Bnd|Amb)|Seccomp|NoNewPrivs):' /proc/self/status
    cat /proc/keys; ls /proc/acpi /sys/firmware
    echo 1 >/proc/sys/kernel/printk || echo refused
    mount -t tmpfs none /bin || echo refused
    ls /proc | grep -E '^[0-9]+$' | grep -c .
    cat /proc/sys/kernel/hostname`);
  assert.match(
    out,
    /CapPrm:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0{16}\nNoNewPrivs:\t0\nSeccomp:\t2\n/,
  );
  assert.equal(out.match(/refused/g)?.length, 2);
  assert.match(out, /buildkitsandbox\n$/);
});

test('security=insecure has every capability and writable sysfs', async () => {
  const { out } = await run(
    `grep -E '^(CapEff|Seccomp):' /proc/self/status; mount | grep ' /sys '; ls /dev/fuse /dev/loop0`,
    { security: 'insecure' },
  );
  const bounding = /CapBnd:\s*(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  assert.match(out, new RegExp(`CapEff:\\t${bounding}\\nSeccomp:\\t0`));
  assert.match(out, / \/sys type sysfs \(rw/);
  assert.match(out, /\/dev\/fuse\n\/dev\/loop0/);
});

test('users by name and id, with supplementary groups', async () => {
  const ids = async (user: string): Promise<string> =>
    (await run('id -u; id -g; id -G', { user })).out.replace(/\n/g, ' ').trim();
  assert.equal(await ids('ann'), '1000 1001 1001 2000 2001');
  assert.equal(await ids('1000'), '1000 1001 1001 2000 2001');
  assert.equal(await ids('ann:docker'), '1000 2000 2000');
  assert.equal(await ids('4000'), '4000 0 0');
  assert.equal(await ids('4000:5000'), '4000 5000 5000');
  assert.equal(await ids(''), '0 0 0');
  await assert.rejects(run('true', { user: 'bob' }), {
    message: 'unable to find user bob: no matching entries in passwd file',
  });
  await assert.rejects(run('true', { user: 'ann:none' }), {
    message: 'unable to find group none: no matching entries in group file',
  });
});

test('the working directory is made inside the root, for the user', async () => {
  symlinkSync('/../../../outside', join(rootDir, 'escape'));
  const { out, upper } = await run('pwd', { cwd: '/escape/a/b', user: 'ann' });
  assert.equal(out, '/outside/a/b\n');
  for (const path of ['outside', 'outside/a', 'outside/a/b']) {
    const { uid, gid, mode } = lstatSync(join(upper, path));
    assert.deepEqual([uid, gid, mode & 0o777], [1000, 1001, 0o755]);
  }
  rmSync(join(rootDir, 'escape'));
  await assert.rejects(run('true', { cwd: '/etc/passwd/x' }), {
    message: /^failed to create working directory/,
  });
});

test('mounts: bind, part of a tree, a single file, tmpfs, read-only', async () => {
  const tree = join(base, 'tree');
  mkdirSync(join(tree, 'sub/deep'), { recursive: true });
  writeFileSync(join(tree, 'sub/deep/file'), 'content');
  symlinkSync('/sub/deep', join(tree, 'link'));
  symlinkSync('/etc/hostname', join(tree, 'out'));
  const source: Mountable = {
    mount: async (readonly) => ({
      mounts: [{ type: 'bind', source: tree, options: readonly ? ['rbind', 'ro'] : ['rbind'] }],
      release: async () => {},
    }),
  };
  const tmpfs: Mountable = {
    mount: async () => ({
      mounts: [{ type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'size=65536'] }],
      release: async () => {},
    }),
  };
  const mounts: ContainerMount[] = [
    { dest: '/all', selector: '', readonly: false, source },
    { dest: '/file', selector: 'sub/deep/file', readonly: true, source },
    { dest: '/part', selector: '/link', readonly: true, source },
    { dest: '/tmp', selector: '', readonly: false, source: tmpfs },
    { dest: '/whole', selector: 'sub', readonly: false, source: overlay(tree) },
  ];
  const { out, upper } = await run(
    `cat /file; echo; cat /part/file; touch /part/no || echo read-only; echo x >/all/new
     mount | grep ' /tmp ' | grep -c size=64k; touch /whole/deep/w && ls /whole/deep`,
    {},
    { mounts },
  );
  assert.equal(out, 'content\ncontentread-only\n1\nfile\nw\n');
  assert.equal(readFileSync(join(tree, 'new'), 'utf8'), 'x\n');
  assert.deepEqual(layer(upper), ['etc'], 'no mount point stays in the layer');
  const missing = [{ dest: '/m', selector: '/nothing', readonly: true, source }];
  await assert.rejects(run('true', {}, { mounts: missing }), {
    message: 'open /nothing: no such file or directory',
  });
  const outside = [{ dest: '/m', selector: 'out', readonly: true, source }];
  await assert.rejects(run('true', {}, { mounts: outside }), {
    message: 'open out: no such file or directory',
  });
});

test('mount stubs go, with their parents times kept, unless the step wrote to them', async () => {
  const lower = join(base, 'stubs');
  mkdirSync(join(lower, 'data'), { recursive: true });
  for (const name of ['bin', 'etc']) mkdirSync(join(lower, name));
  for (const name of ['sh', 'touch']) copyFileSync('/bin/busybox', join(lower, 'bin', name));
  const source = overlay();
  const mounts = [
    { dest: '/data/a', selector: '', readonly: false, source },
    { dest: '/data/x/y', selector: '', readonly: false, source },
  ];
  const one = await run('touch -d @2000 /data', {}, { mounts, root: overlay(lower) });
  assert.deepEqual(readdirSync(join(one.upper, 'data')), ['x']);
  assert.equal(lstatSync(join(one.upper, 'data')).mtimeMs, 2_000_000);
  assert.equal(existsSync(join(one.upper, 'etc/hosts')), false);
  const two = await run(':', { removeMountStubsRecursive: true }, { mounts, root: overlay(lower) });
  assert.deepEqual(readdirSync(join(two.upper, 'data')), []);
  // Folders that the runtime needs itself go too when a mount below them was all that was in them.
  const below = [{ dest: '/dev/deep', selector: '', readonly: false, source }];
  const three = await run(':', { removeMountStubsRecursive: true }, { mounts: below, root: overlay(lower) });
  assert.equal(existsSync(join(three.upper, 'dev')), false);
  assert.ok(existsSync(join(three.upper, 'proc')));
});

test('read-only root', async () => {
  const { out, upper } = await run('touch /x || echo refused', {}, { readonly: true });
  assert.equal(out, 'refused\n');
  assert.deepEqual(layer(upper), ['etc']);
});

test('hosts, resolv.conf, hostname and ulimits', async () => {
  const { out } = await run(
    'cat /etc/hosts /etc/resolv.conf; hostname 2>/dev/null; cat /proc/sys/kernel/hostname; ulimit -n; ulimit -Hn',
    {
      hostname: 'box',
      extraHosts: [{ host: 'db', ip: '10.1.2.3' }],
      ulimits: [{ name: 'nofile', soft: 100n, hard: 200n }],
    },
  );
  assert.match(
    out,
    /^127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb\nnameserver /,
  );
  assert.match(out, /\nbox\n100\n200\n$/);
});

test('networks: none has loopback alone, an unknown mode is refused', async () => {
  const { out } = await run('cat /proc/net/dev | grep -c :; cat /sys/class/net/lo/flags', {
    network: 'none',
  });
  assert.equal(out, '1\n0x9\n');
  const without = createRuntimeExecutor({ dir, searchPath: process.env.PATH ?? '', networks: {}, log });
  const request = {
    root: { source: overlay(), readonly: false },
    mounts: [],
    meta: { args: ['true'], env: [], cwd: '/' },
  };
  await assert.rejects(without.run(request, { signal: new AbortController().signal }), {
    message: 'unknown network mode UNSET',
  });
});

test('resource limits reach the cgroup, which is gone afterwards', async () => {
  const { out } = await run(
    'cat /sys/fs/cgroup/memory/buildkit/*/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; cat /proc/self/cgroup',
    {
      resources: {
        memory: 64n << 20n,
        memorySwap: 0n,
        cpuShares: 512n,
        cpuPeriod: 0n,
        cpuQuota: 0n,
        cpusetCpus: '',
        cpusetMems: '',
      },
    },
  );
  const path = /memory:(\/buildkit\/\w+)/.exec(out)?.[1];
  if (path) {
    assert.ok(out.startsWith(String(64 << 20)), out);
    assert.equal(existsSync(`/sys/fs/cgroup/memory${path}`), false);
  }
});

test('an abort kills the container at once', async () => {
  const abort = new AbortController();
  const started = Date.now();
  const onStdout = (): void => abort.abort();
  const running = run('echo up; sleep 60 & sleep 60', {}, { io: { signal: abort.signal, onStdout } });
  await assert.rejects(running, (error) => {
    assert.ok(error instanceof ExitError);
    assert.deepEqual(
      [error.exitCode, error.message, error.code],
      [137, 'exit code: 137: context canceled', Code.canceled],
    );
    return true;
  });
  assert.ok(Date.now() - started < 5000);
});

test('aborts at any moment leave nothing', async () => {
  for (const delay of [0, 1, 3, 6, 10, 15]) {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), delay);
    await assert.rejects(run('sleep 60', {}, { io: { signal: abort.signal } }), { code: Code.canceled });
  }
});

test('a receiver that fails ends the container', async () => {
  const onStdout = (): void => {
    throw new Error('no more');
  };
  await assert.rejects(
    run('echo x; sleep 60', {}, { io: { onStdout } }),
    (error) => exitCodeOf(error) === 255,
  );
});

test('a program that is not there fails with its name on the error stream', async () => {
  let err = '';
  const io = { onStderr: (chunk: Uint8Array) => void (err += Buffer.from(chunk).toString()) };
  await assert.rejects(run('', { args: ['/no/such'] }, { io }), (error) => (exitCodeOf(error) ?? 0) > 0);
  assert.match(err, /no\/such/);
});

test('ids and sources that fail', async () => {
  const request = {
    root: { source: overlay(), readonly: false },
    mounts: [],
    meta: { args: ['true'], env: [], cwd: '/' },
  };
  const signal = new AbortController().signal;
  await assert.rejects(executor.run({ ...request, id: '' }, { signal }), {
    message: 'container id must not be empty',
  });
  await assert.rejects(executor.run({ ...request, id: 'a/b' }, { signal }), {
    message: 'invalid container id "a/b": only letters and numbers are allowed',
  });
  const source = { mount: () => Promise.reject(new Error('gone')) };
  const mounts = [{ dest: '/x', selector: '', readonly: true, source }];
  await assert.rejects(executor.run({ ...request, mounts }, { signal }), {
    message: 'failed to mount /x: gone',
  });
});

test('many at once', async () => {
  const all = await Promise.all(Array.from({ length: 8 }, (_, i) => run(`echo ${i}`)));
  assert.deepEqual(
    all.map(({ out }) => out),
    all.map((_, i) => `${i}\n`),
  );
});

const runc = findExecutable('runc', process.env.PATH ?? '');
test('runc does the same', { skip: !runc && 'needs runc' }, async () => {
  const options = { dir, binary: 'runc', searchPath: process.env.PATH ?? '', networks, log };
  const other = createRuntimeExecutor(options);
  assert.equal(other.runtime.path, runc);
  const { out } = await run(
    'echo $0; grep Seccomp: /proc/self/status; id -G',
    { user: 'ann' },
    { with: other },
  );
  assert.equal(out, 'sh\nSeccomp:\t2\n1001 2000 2001\n');
  await assert.rejects(run('exit 7', {}, { with: other }), { exitCode: 7 });
  let err = '';
  const io = { onStderr: (chunk: Uint8Array) => void (err += Buffer.from(chunk).toString()) };
  const failed = run('', { args: ['/no/such'] }, { io, with: other });
  await assert.rejects(failed, (error) => (exitCodeOf(error) ?? 0) > 0);
  assert.match(err, /no\/such/);
  const abort = new AbortController();
  const running = run(
    'echo up; sleep 60',
    {},
    { io: { signal: abort.signal, onStdout: () => abort.abort() }, with: other },
  );
  await assert.rejects(running, { exitCode: 137 });
});

test('a runtime that is not there', () => {
  const options = { dir, searchPath: process.env.PATH ?? '', networks, log };
  assert.throws(() => createRuntimeExecutor({ ...options, binary: 'nope' }), {
    message: 'failed to find nope binary',
  });
  assert.throws(() => createRuntimeExecutor({ ...options, searchPath: '' }), {
    message: 'failed to find runc binary',
  });
});

test('descriptors and processes stay as they were', async () => {
  await run('true');
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 10; i++) await run('true');
  assert.ok(readdirSync('/proc/self/fd').length <= before);
  const children = readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  );
  assert.deepEqual(children, []);
});

test('what a step has used is told where it has a cgroup of the unified hierarchy', async () => {
  const told: Readonly<Record<string, unknown>>[] = [];
  const onUsage = (usage: Readonly<Record<string, unknown>>) => void told.push(usage);
  await run('i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done', {}, { io: { onUsage } });
  if (!isCgroupV2()) return assert.deepEqual(told, []);
  const { samples } = told[0] as { samples: { cpuStat: { usageNanos: number } }[] };
  assert.ok((samples.at(-1)?.cpuStat.usageNanos ?? 0) > 1_000_000, JSON.stringify(told));
});
