// Limits of steps: resources, ulimits, shared memory, cgroups. Values are read inside the step.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Daemon, OUR_DAEMON, Registry, TempDir } from './harness.ts';

const V2 = existsSync('/sys/fs/cgroup/cgroup.subtree_control');
const READ = V2
  ? 'cd /sys/fs/cgroup; echo "mem $(cat memory.max) cpu $(cat cpu.max) cpus $(cat cpuset.cpus)"'
  : 'cd /sys/fs/cgroup; echo "mem $(cat memory/memory.limit_in_bytes) cpu $(cat cpu/cpu.cfs_quota_us) $(cat cpu/cpu.cfs_period_us) cpus $(cat cpuset/cpuset.cpus)"';

let registry: Registry;
let daemon: Daemon;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  // The harness's own configuration ends inside the worker's table.
  daemon = await Daemon.start({ config: `defaultCgroupParent = "/bkt-default"\n${registry.config}` });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
  // Parents stay when their steps have ended: they are the administrator's.
  for (const hierarchy of V2 ? [''] : readdirSync('/sys/fs/cgroup'))
    for (const name of ['bkt-default', 'bkt-own', 'bkt-x', 'bkt-unified'])
      for (const path of [`${name}/buildkit`, name]) {
        const cgroup = join('/sys/fs/cgroup', hierarchy, path);
        if (existsSync(cgroup)) rmdirSync(cgroup);
      }
});

/** Options of a build as flags. */
function opts(options: Readonly<Record<string, string>>): string[] {
  return Object.entries(options).flatMap(([key, value]) => ['--opt', `${key}=${value}`]);
}

function context(name: string, ...instructions: string[]): string {
  dir.write({ [`${name}/Dockerfile`]: `FROM busybox\n${instructions.join('\n')}\n` });
  return dir.join(name);
}

/** What a step printed. */
function printed(stderr: string, word: string): string[] {
  return [...stderr.matchAll(new RegExp(`^#\\d+ \\d+\\.\\d+ (${word} .*)$`, 'gm'))].map((m) => m[1] ?? '');
}

test('memory and processor limits hold in the step and leave the cache key alone', async () => {
  const path = context('limits', `RUN ${READ}`);
  const limits = opts({ memory: '104857600', cpuquota: '50000', cpuperiod: '100000', cpusetcpus: '0' });
  const { stderr } = await daemon.build(path, limits);
  assert.deepEqual(printed(stderr, 'mem'), ['mem 104857600 cpu 50000 100000 cpus 0']);
  const again = await daemon.build(path, opts({ memory: '209715200' }));
  assert.match(again.stderr, /RUN cd .*\n#\d+ CACHED\n/);
});

test('a step that two builds share gets the more relaxed limits', async () => {
  const path = context('shared', 'RUN echo begun; sleep 3', `RUN ${READ}`);
  const limits = (memory: string, cpusetcpus: string) => opts({ memory, cpusetcpus });
  let second: Promise<{ stderr: string }> | undefined;
  const first = await daemon.build(path, limits('104857600', '0'), {
    onStderr: (text) => {
      if (/ begun$/m.test(text)) second ??= daemon.build(path, limits('209715200', '1'));
    },
  });
  assert.ok(second);
  const wanted = /^mem 209715200 .* cpus 0-1$/;
  assert.match(printed(first.stderr, 'mem')[0] ?? '', wanted);
  assert.match(printed((await second).stderr, 'mem')[0] ?? '', wanted);
});

test('limits that make no sense are refused with their name', async () => {
  const path = context('refused', 'RUN true');
  for (const [key, value, message] of [
    ['memory', '0', 'invalid memory value: 0: must be > 0'],
    ['memory', '1g', 'invalid memory value: 1g: '],
    ['cpushares', '-1', 'invalid cpushares value: -1: strconv.ParseUint: parsing "-1": invalid syntax'],
    ['memswap', '-2', 'invalid memswap value: -2: must be -1 (unlimited) or > 0'],
    [
      'cpusetcpus',
      '0-99999',
      'invalid cpusetcpus value: 0-99999: cpuset range "0-99999" exceeds maximum 8192',
    ],
    ['ulimit', 'nofile', 'failed to parse ulimit: invalid ulimit argument: nofile'],
    ['ulimit', 'x=1', 'failed to parse ulimit: invalid ulimit type: x'],
    ['shm-size', 'x', 'failed to parse shm size: '],
  ] as const) {
    const { code, stderr } = await daemon.tryBuild(path, opts({ [key]: value }));
    assert.equal(code, 1);
    assert.ok(stderr.includes(message), stderr);
  }
});

test('ulimits, shared memory and the host name', async () => {
  const path = context(
    'ulimit',
    "RUN echo \"lim $(ulimit -n) $(ulimit -Hn) $(grep processes /proc/self/limits | tr -s ' ' | cut -d' ' -f3)\"; echo \"shm $(df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2)\"; echo \"name $(cat /proc/sys/kernel/hostname)\"",
  );
  const limits = opts({
    ulimit: 'nofile=1062:2048,nproc=700',
    'shm-size': '134217728',
    hostname: 'testhost',
  });
  const { stderr } = await daemon.build(path, limits);
  assert.deepEqual(printed(stderr, 'lim'), ['lim 1062 2048 700']);
  assert.deepEqual(printed(stderr, 'shm'), ['shm 131072']);
  assert.deepEqual(printed(stderr, 'name'), ['name testhost']);
});

test('cgroup parents: the default, the one of a build, and none outside', async (t) => {
  if (V2) return t.skip('the step sees its own cgroup as the root');
  const path = context('parent', 'ARG N', 'RUN cat /proc/self/cgroup | grep :memory: | sed "s/^/cg /"');
  const parent = async (n: string, options: Record<string, string>): Promise<string> =>
    printed((await daemon.build(path, opts({ 'build-arg:N': n, ...options }))).stderr, 'cg')[0] ?? '';
  assert.match(await parent('1', {}), /^cg \d+:memory:\/bkt-default\/buildkit\/[a-z0-9]+$/);
  assert.match(await parent('2', { 'cgroup-parent': 'bkt-own' }), /:\/bkt-own\/buildkit\/[a-z0-9]+$/);
  if (OUR_DAEMON)
    assert.match(await parent('3', { 'cgroup-parent': '../../bkt-x' }), /:\/bkt-x\/buildkit\/[a-z0-9]+$/);
  for (const name of ['bkt-default', 'bkt-own', 'bkt-x']) {
    assert.deepEqual(
      readdirSync(`/sys/fs/cgroup/memory/${name}/buildkit`, { withFileTypes: true }).filter((e) =>
        e.isDirectory(),
      ),
      [],
      'the cgroups of ended steps are gone',
    );
  }
});

test('a host with the unified hierarchy alone', async (t) => {
  if (V2 || !existsSync('/sys/fs/cgroup/unified')) return t.skip('not a host of both hierarchies');
  // A namespace where the first hierarchy is out of sight. runc, since crun needs the right to lock memory.
  const enter = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"';
  await using unified = await Daemon.start({
    config: `defaultCgroupParent = "bkt-unified"\nbinary = "runc"\n${registry.config}`,
    args: ['--allow-insecure-entitlement', 'security.insecure'],
    through: ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', enter, 'sh'],
  });
  const path = context(
    'unified',
    'RUN sleep 1; echo "own $(grep ^0: /proc/self/cgroup)"; mkdir /sys/fs/cgroup/x || echo "own closed"',
    'RUN mknod /n b 7 0; cat /n || echo "own no devices"',
    'RUN --security=insecure mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x && echo "own open"',
  );
  const cgroups = (): string[] =>
    readdirSync('/sys/fs/cgroup/unified/bkt-unified/buildkit', { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  let during: string[] = [];
  const timer = setInterval(() => {
    if (existsSync('/sys/fs/cgroup/unified/bkt-unified/buildkit')) during = [...during, ...cgroups()];
  }, 50);
  const result = await unified
    .build(path, ['--allow', 'security.insecure'])
    .finally(() => clearInterval(timer));
  assert.deepEqual(printed(result.stderr, 'own'), ['own 0::/', 'own closed', 'own no devices', 'own open']);
  assert.ok(during.length > 0, 'steps run in cgroups below the default parent');
  assert.deepEqual(cgroups(), [], 'and leave none');
});
