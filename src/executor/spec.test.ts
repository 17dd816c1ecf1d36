import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { makeHosts, makeResolvConf } from './resolvconf.ts';
import { defaultSeccomp } from './seccomp.ts';
import { cgroupsPath, makeSpec, mountDestination, type SpecInput, withPath } from './spec.ts';
import type { LinuxResources } from './types.ts';

const INPUT: SpecInput = {
  id: 'abc',
  rootfs: '/r',
  readonlyRootfs: false,
  meta: { args: ['true'], env: ['PATH=/x'], cwd: '/w' },
  user: { uid: 1, gid: 2, additionalGids: [2, 3] },
  mounts: [],
  resolvConf: '/e/resolv.conf',
  hosts: '/e/hosts',
  network: 'new',
  cgroupParent: '',
  cgroupV2: false,
  seccomp: false,
  apparmorProfile: '',
  oomScoreAdj: undefined,
};
type Linux = {
  namespaces: { type: string; path?: string }[];
  cgroupsPath: string;
  devices?: { path: string }[];
  resources: Record<string, unknown>;
};
const linuxOf = (input: Partial<SpecInput>): Linux => makeSpec({ ...INPUT, ...input }).linux as Linux;
const golden = JSON.parse(readFileSync(new URL('spec.golden.json', import.meta.url), 'utf8')) as {
  plain: Plain;
  /** By case: what differs, by `field` or `field.field`; null is a field that is not there. */
  changes: Record<string, Record<string, unknown>>;
  addedForCgroupV2: { type: string };
};
type Plain = Record<string, Record<string, unknown>> & { linux: Linux };

/** What the golden file has of a spec: no paths of this machine, and not what depends on its kernel. */
function comparable(spec: Record<string, unknown>): unknown {
  const { ociVersion: _version, root: _root, ...rest } = JSON.parse(JSON.stringify(spec)) as Plain;
  rest.process!.noNewPrivileges = undefined;
  rest.process!.terminal = undefined;
  if (rest.linux?.devices) {
    rest.process!.capabilities = undefined;
    rest.linux.devices = rest.linux.devices.filter(({ path }) => !/loop\d+$/.test(path));
  }
  return JSON.parse(JSON.stringify(rest));
}

function changed(plain: Plain, changes: Record<string, unknown>): Plain {
  const spec = structuredClone(plain);
  for (const [path, value] of Object.entries(changes)) {
    const [outer = '', inner] = path.split('.');
    const holder: Record<string, unknown> = inner === undefined ? spec : spec[outer]!;
    holder[inner ?? outer] = value ?? undefined;
  }
  return JSON.parse(JSON.stringify(spec));
}

const NONE: LinuxResources = {
  memory: 0n,
  memorySwap: 0n,
  cpuShares: 0n,
  cpuPeriod: 0n,
  cpuQuota: 0n,
  cpusetCpus: '',
  cpusetMems: '',
};

test('base mounts in order; a step mount takes the place of the one it covers', () => {
  const shm = { destination: '/dev/shm', type: 'tmpfs', source: 'tmpfs', options: ['size=1'] };
  const own = { destination: '/own', type: 'bind', source: '/s', options: ['rbind'] };
  const { mounts } = makeSpec({ ...INPUT, mounts: [shm, own] }) as { mounts: (typeof own)[] };
  assert.deepEqual(
    mounts.map((m) => m.destination),
    [
      '/proc',
      '/dev',
      '/dev/pts',
      '/dev/shm',
      '/dev/mqueue',
      '/sys',
      '/etc/resolv.conf',
      '/etc/hosts',
      '/sys/fs/cgroup',
      '/own',
    ],
  );
  assert.deepEqual(mounts[3], shm);
  assert.deepEqual(mounts[6]?.options, ['nosuid', 'noexec', 'nodev', 'rbind', 'ro']);
  assert.deepEqual(mounts[8]?.options, ['ro', 'nosuid', 'noexec', 'nodev']);
});

test('whole specs are those of BuildKit, with either cgroup hierarchy', () => {
  const limits = {
    resources: {
      memory: 1n << 20n,
      memorySwap: -1n,
      cpuShares: 512n,
      cpuPeriod: 100000n,
      cpuQuota: 50000n,
      cpusetCpus: '0-1',
      cpusetMems: '0',
    },
    hostname: 'own',
    ulimits: [
      { name: 'nofile', soft: 10n, hard: 20n },
      { name: 'core', soft: -1n, hard: -1n },
    ],
  };
  const cases: Record<string, Partial<Omit<SpecInput, 'meta'>> & { meta?: Partial<SpecInput['meta']> }> = {
    'host network': { network: 'host' },
    'network namespace': { network: { path: '/run/netns/x' } },
    insecure: { meta: { security: 'insecure' } },
    limits: { meta: limits },
    'period alone': { meta: { resources: { ...NONE, cpuPeriod: 100000n } } },
    slice: { cgroupParent: '/default', meta: { cgroupParent: 'system.slice:buildkit:' } },
    'default parent': { cgroupParent: '/default' },
    'own parent': { cgroupParent: '/default', meta: { cgroupParent: 'own' } },
  };
  assert.deepEqual(Object.keys(cases).sort(), Object.keys(golden.changes).sort());
  for (const [name, input] of [['plain', {}] as const, ...Object.entries(cases)]) {
    const meta = { ...INPUT.meta, ...input.meta };
    const expected = changed(golden.plain, golden.changes[name] ?? {});
    assert.deepEqual(comparable(makeSpec({ ...INPUT, ...input, meta })), expected, name);
    expected.linux.namespaces.push(golden.addedForCgroupV2);
    assert.deepEqual(comparable(makeSpec({ ...INPUT, ...input, meta, cgroupV2: true })), expected, name);
  }
});

test('namespaces by network and by cgroup version', () => {
  const types = (input: Partial<SpecInput>): string =>
    linuxOf(input)
      .namespaces.map((n) => n.type + (n.path ?? ''))
      .join();
  assert.equal(types({}), 'pid,ipc,uts,mount,network');
  assert.equal(types({ network: 'host' }), 'pid,ipc,uts,mount');
  assert.equal(types({ network: { path: '/n' } }), 'pid,ipc,uts,mount,network/n');
  assert.equal(types({ cgroupV2: true, network: 'host' }), 'pid,ipc,uts,mount,cgroup');
});

test('cgroup paths', () => {
  assert.equal(cgroupsPath('abc', ''), '/buildkit/abc');
  assert.equal(cgroupsPath('abc', 'foo/bar'), '/foo/bar/buildkit/abc');
  assert.equal(cgroupsPath('abc', 'system.slice:buildkit:'), 'system.slice:buildkit:abc');
  assert.equal(cgroupsPath('abc', 'system.slice'), '/system.slice/buildkit/abc');
  assert.equal(linuxOf({ cgroupParent: 'daemon' }).cgroupsPath, '/daemon/buildkit/abc');
  const meta = { ...INPUT.meta, cgroupParent: 'step' };
  assert.equal(linuxOf({ cgroupParent: 'daemon', meta }).cgroupsPath, '/step/buildkit/abc');
});

test('resources and limits as given and no others', () => {
  const resources = (given: Partial<LinuxResources>): unknown =>
    linuxOf({ meta: { ...INPUT.meta, resources: { ...NONE, ...given } } }).resources;
  const devices = [{ allow: false, access: 'rwm' }];
  assert.deepEqual(resources({}), { devices });
  assert.deepEqual(resources({ memory: 5n, memorySwap: -1n, cpuQuota: 7n, cpusetCpus: '0-1' }), {
    devices,
    memory: { limit: 5, swap: -1 },
    cpu: { quota: 7, period: 0, cpus: '0-1' },
  });
  const ulimits = [{ name: 'memlock', soft: -1n, hard: 9n }];
  const text = JSON.stringify(makeSpec({ ...INPUT, meta: { ...INPUT.meta, ulimits } }));
  assert.ok(
    text.includes('"rlimits":[{"type":"RLIMIT_MEMLOCK","hard":9,"soft":18446744073709551615}]'),
    text,
  );
  assert.ok(!JSON.stringify(makeSpec(INPUT)).includes('rlimits'));
});

test('environment and destinations', () => {
  assert.deepEqual(withPath(['PATH=']), ['PATH=']);
  assert.deepEqual(withPath(['A=1']), [
    'A=1',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  ]);
  assert.equal(mountDestination('/a/../b/'), '/b');
  assert.equal(mountDestination('x'), '/x');
});

test('seccomp: by capability, architecture and kernel', () => {
  const allowed = (capabilities: string[], arch?: string, kernel?: string): Set<string> =>
    new Set(
      defaultSeccomp(capabilities, arch, kernel)
        .syscalls.filter((rule) => rule.action === 'SCMP_ACT_ALLOW' && !rule.args)
        .flatMap((rule) => rule.names),
    );
  const plain = allowed([], 'x64', '6.1.0');
  for (const name of ['read', 'openat2', 'arch_prctl', 'ptrace']) assert.ok(plain.has(name), name);
  for (const name of [
    'mount',
    'clone',
    'clone3',
    'bpf',
    'chroot',
    'socket',
    'keyctl',
    'userfaultfd',
    'set_tls',
  ])
    assert.ok(!plain.has(name), name);
  assert.ok(allowed(['CAP_SYS_ADMIN'], 'x64').has('clone3'));
  assert.ok(!allowed([], 'x64', '4.4.0-generic').has('ptrace'));
  assert.ok(allowed([], 'arm64').has('set_tls'));
  const rules = defaultSeccomp([], 'x64').syscalls;
  assert.deepEqual(rules.find((rule) => rule.names[0] === 'clone')?.args?.[0], {
    index: 0,
    value: 0x7e020000,
    valueTwo: 0,
    op: 'SCMP_CMP_MASKED_EQ',
  });
  assert.equal(rules.find((rule) => rule.names[0] === 'clone3')?.errnoRet, 38);
  assert.equal(plain.size, 366);
});

test('resolv.conf: rewritten, loopback servers replaced, parts overridden', () => {
  const text =
    '# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver nonsense\ndomain a\nsearch b c\noptions x\noptions y\nsortlist 1\n';
  assert.equal(
    makeResolvConf(text, undefined, false),
    'nameserver 10.0.0.1\nsearch b c\noptions x y\nsortlist 1\n',
  );
  assert.equal(makeResolvConf('nameserver ::1\n', undefined, true), 'nameserver ::1\n');
  const fallback =
    'nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n';
  assert.equal(makeResolvConf('nameserver ::1\nnameserver 127.1.2.3', undefined, false), fallback);
  assert.equal(makeResolvConf('', undefined, true), fallback);
  const dns = { nameservers: ['127.0.0.9'], searchDomains: ['.', 'd'], options: ['z'] };
  assert.equal(makeResolvConf(text, dns, false), 'nameserver 127.0.0.9\nsearch d\noptions z\nsortlist 1\n');
  assert.throws(() => makeResolvConf('', { ...dns, nameservers: ['x'] }, false), {
    message: /^bad nameserver address: /,
  });
});

test('hosts', () => {
  assert.equal(
    makeHosts('', [{ host: 'h', ip: '::2' }]),
    '127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n::2\th\n',
  );
});
