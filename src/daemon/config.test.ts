import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type DaemonConfig, parseDaemonArgs } from './config.ts';
import { parseConfigFile } from './config-file.ts';
import { diskBytes, parseDiskSpace } from './config-values.ts';
import { gcPolicies } from './gc-policy.ts';

const dir = mkdtempSync(join(tmpdir(), 'bk-config-'));
after(() => rmSync(dir, { recursive: true, force: true }));
let files = 0;

function tomlFile(text: string): string {
  const path = join(dir, `${files++}.toml`);
  writeFileSync(path, text);
  return path;
}

async function run(toml: string, argv: string[] = [], env: Record<string, string> = {}) {
  const parsed = await parseDaemonArgs(['--config', tomlFile(toml), ...argv], env);
  assert.equal(parsed.kind, 'run', JSON.stringify(parsed));
  return parsed as { kind: 'run'; config: DaemonConfig; warnings: string[] };
}

test('defaults', async () => {
  const { config, warnings } = await run('');
  assert.equal(config.root, '/var/lib/buildkit');
  assert.deepEqual(config.addresses, [
    { kind: 'unix', text: 'unix:///run/buildkit/buildkitd.sock', path: '/run/buildkit/buildkitd.sock' },
  ]);
  assert.deepEqual(config.log, { level: 'info', format: 'text' });
  assert.deepEqual([...config.entitlements], ['device']);
  assert.equal(config.oci.snapshotter, 'auto');
  assert.equal(config.oci.enabled, undefined);
  assert.equal(config.maxRegistryConcurrency, 4);
  assert.equal(config.tls, undefined);
  assert.deepEqual(warnings, []);
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.oci.network));
});

test('a flag beats the file, the file beats the default', async () => {
  const toml = `
root = "/a"
insecure-entitlements = ["network.host"]
[log]
level = "debug"
format = "json"
[grpc]
address = ["tcp://0.0.0.0:1234", "unix:///x.sock"]
uid = 5
gid = 6
[grpc.tls]
cert = "c"
key = "k"
[worker.oci]
enabled = true
max-parallelism = 4
networkMode = "host"
[worker.oci.labels]
a = "1"
`;
  const file = (await run(toml)).config;
  assert.equal(file.root, '/a');
  assert.deepEqual([...file.entitlements].sort(), ['device', 'network.host']);
  assert.deepEqual(file.log, { level: 'debug', format: 'json' });
  assert.deepEqual(file.socketOwner, { uid: 5, gid: 6 });
  assert.deepEqual(file.tls, { cert: 'c', key: 'k' });
  assert.equal(file.addresses.length, 2);
  assert.equal(file.oci.maxParallelism, 4);
  assert.deepEqual([file.oci.network.mode, file.oci.network.chosen], ['host', true]);

  const flags = (
    await run(toml, [
      '--root=/b',
      '--allow-insecure-entitlement',
      'security.insecure',
      '--cdi-disabled',
      '--log-level',
      'warning',
      '--group',
      '7',
      '-addr',
      'unix:///y',
      '--oci-worker-labels',
      'b=2=3',
      '--oci-max-parallelism=1',
      '--tlscacert=ca',
      '--oci-worker-net=cni',
      '--oci-cni-config-path=/etc/c.json',
      '--oci-worker=auto',
    ])
  ).config;
  assert.equal(flags.root, '/b');
  assert.deepEqual([...flags.entitlements], ['security.insecure']);
  assert.deepEqual(flags.log, { level: 'warn', format: 'json' });
  assert.deepEqual(flags.socketOwner, { uid: 5, gid: 7 });
  assert.deepEqual(
    flags.addresses.map((a) => a.text),
    ['unix:///y'],
  );
  assert.deepEqual(flags.oci.labels, { a: '1', b: '2=3' });
  assert.equal(flags.oci.maxParallelism, 1);
  assert.deepEqual(flags.tls, { cert: 'c', key: 'k', ca: 'ca' });
  assert.deepEqual([flags.oci.network.mode, flags.oci.network.cniConfigPath], ['cni', '/etc/c.json']);
  assert.equal(flags.oci.enabled, undefined);
});

test('bad values are refused with the name of the key', async () => {
  const refused: [string, string[], RegExp][] = [
    ['root = 5', [], /: root: expected a string, got 5/],
    ['[worker.oci]\nmax-parallelism = "x"', [], /worker\.oci\.max-parallelism: expected an integer, got "x"/],
    ['[worker.oci]\nnetworkMode = "wifi"', [], /worker\.oci\.networkMode: expected one of auto, bridge/],
    ['[log]\nlevel = "loud"', [], /log\.level/],
    ['[system]\nmaxRegistryConcurrency = 0', [], /system\.maxRegistryConcurrency: .*greater than zero/],
    ['[registry."x.io"]\nmirrors = "y"', [], /registry\."x\.io"\.mirrors: expected an array/],
    ['[worker.oci]\nreservedSpace = "12 parsecs"', [], /worker\.oci\.reservedSpace: invalid disk space/],
    ['[history]\nmaxAge = "x"', [], /history\.maxAge: invalid duration x/],
    ['a = ', [], /failed to parse config/],
    ['', ['--addr', '/run/x'], /address \/run\/x does not contain proto, you meant unix:\/\/\/run\/x \?/],
    ['', ['--addr', 'http://x'], /addr http:\/\/x not supported/],
    ['', ['--addr', ''], /--addr cannot be empty/],
    ['', ['--allow-insecure-entitlement', 'x'], /invalid entitlement : x/],
    ['', ['--tlscert', 'x'], /you must specify key and cert file if one is specified/],
    ['', ['--log-format', 'xml'], /unsupported log type "xml"/],
    ['', ['--group', 'no-such-group'], /unknown group no-such-group/],
  ];
  for (const [toml, argv, pattern] of refused) await assert.rejects(run(toml, argv), pattern);
});

test('unknown keys and features to come give one warning each', async () => {
  const { warnings } = await run(
    `
proxyNetwork = true
[worker.oci]
max-paralelism = 3
selinux = false
[worker.containerd]
enabled = true
namespace = "x"
[grpc]
Address = ["unix:///case"]
[nonsense]
`,
    ['--save-cache-debug'],
  );
  assert.deepEqual(warnings, [
    'configuration key proxyNetwork has no effect: the proxy network is not built yet',
    'unknown configuration key worker.oci.max-paralelism, did you mean max-parallelism?',
    'configuration key worker.containerd has no effect: the containerd worker is not built yet',
    'unknown configuration key nonsense',
    'flag --save-cache-debug has no effect: cache debug information is not built yet',
  ]);
  const quiet = await run('[worker.containerd]\nenabled = false\n[history]\n', ['--containerd-worker=false']);
  assert.deepEqual(
    quiet.warnings.filter((w) => w.includes('containerd')),
    [],
  );
});

test('keys are taken in any case', async () => {
  assert.equal((await run('[GRPC]\naddress = ["unix:///z"]')).config.addresses[0]?.text, 'unix:///z');
});

test('registries, dns, frontends', async () => {
  const { config } = await run(`
[registry."docker.io"]
mirrors = ["mirror.local/path"]
[registry."mirror.local"]
http = true
ca = ["/ca.pem"]
[[registry."mirror.local".keypair]]
key = "k"
cert = "c"
[dns]
nameservers = ["1.1.1.1"]
[frontend."dockerfile.v0"]
enabled = false
`);
  assert.deepEqual(config.registries.get('docker.io')?.mirrors, ['mirror.local/path']);
  assert.deepEqual(config.registries.get('mirror.local'), {
    mirrors: [],
    plainHttp: true,
    insecure: undefined,
    rootCas: ['/ca.pem'],
    keyPairs: [{ key: 'k', cert: 'c' }],
    tlsConfigDirs: [],
  });
  assert.deepEqual(config.dns, { nameservers: ['1.1.1.1'], options: [], searchDomains: [] });
  assert.equal(config.frontends.dockerfile, false);
});

test('environment', async () => {
  const { config } = await run('', [], {
    BUILDKITD_LOG_LEVEL: 'trace',
    BUILDKIT_STEP_LOG_MAX_SIZE: '-1',
    BUILDKIT_STEP_LOG_MAX_SPEED: 'x',
    BUILDKIT_NETWORK_BRIDGE_AUTO: '1',
  });
  assert.equal(config.log.level, 'trace');
  assert.equal(config.env.stepLogMaxSize, -1);
  assert.equal(config.env.stepLogMaxSpeed, undefined);
  assert.equal(config.oci.network.mode, 'bridge');
});

test('a missing file is an empty one', async () => {
  const parsed = await parseDaemonArgs(['--config', join(dir, 'none.toml')], {});
  assert.deepEqual(parsed.kind === 'run' && parsed.warnings, [
    `configuration file ${join(dir, 'none.toml')} does not exist`,
  ]);
});

test('version, help and wrong use', async () => {
  const version = await parseDaemonArgs(['--version'], {});
  assert.match(version.kind === 'text' ? version.text : '', /^buildkitd buildkit-ts v\d+\.\d+\.\d+/);
  const help = await parseDaemonArgs(['-h'], {});
  assert.match(help.kind === 'text' ? help.text : '', /--root string .*default: "\/var\/lib\/buildkit"/);
  assert.ok(help.kind === 'text' && !help.text.includes('exit-with-stdin'));
  const wrong = await parseDaemonArgs(['--foo'], {});
  assert.ok(wrong.kind === 'usage' && wrong.exitCode === 1);
  assert.match(wrong.errorText, /buildkitd: flag provided but not defined: -foo\n$/);
});

test('disk space', () => {
  assert.deepEqual(parseDiskSpace('512MB'), { bytes: 512 * 1024 ** 2 });
  assert.deepEqual(parseDiskSpace('1.5g'), { bytes: 1.5 * 1024 ** 3 });
  assert.deepEqual(parseDiskSpace('10 KiB'), { bytes: 10240 });
  assert.deepEqual(parseDiskSpace('100'), { bytes: 100 });
  assert.deepEqual(parseDiskSpace('20%'), { percent: 20 });
  for (const bad of ['', 'x', '-5', '5x', '1.5%']) assert.equal(parseDiskSpace(bad), undefined, bad);
  assert.equal(diskBytes({ percent: 10 }, 0), 2e9);
  assert.equal(diskBytes({ percent: 10 }, 100 * 2 ** 30), 11e9);
});

test('garbage collection rules', async () => {
  const total = 1e12;
  const { config } = await run('');
  const rules = gcPolicies(config.oci.gc, total);
  assert.equal(rules.length, 4);
  assert.deepEqual(rules[0]?.filters, [
    'type==source.local',
    'type==exec.cachemount',
    'type==source.git.checkout',
  ]);
  assert.equal(rules[0]?.maxUsedSpace, 512e6);
  assert.deepEqual(
    [rules[2]?.reservedSpace, rules[2]?.maxUsedSpace, rules[2]?.minFreeSpace],
    [10e9, 100e9, 187e9],
  );
  assert.equal(rules[3]?.all, true);
  assert.deepEqual(gcPolicies((await run('[worker.oci]\ngc = false')).config.oci.gc, total), []);
  const flagged = (await run('', ['--oci-worker-gc-keepstorage', '5,6,7'])).config.oci.gc;
  assert.deepEqual(gcPolicies(flagged, total)[2], {
    filters: [],
    all: false,
    keepDurationMs: 0,
    reservedSpace: 5e6,
    minFreeSpace: 6e6,
    maxUsedSpace: 7e6,
  });
  const custom = (
    await run(`
[[worker.oci.gcpolicy]]
all = true
filters = ["type==regular"]
keepDuration = 10
keepBytes = "1MB"
[[worker.oci.gcpolicy]]
keepDuration = "48h"
maxUsedSpace = "10%"
`)
  ).config.oci.gc;
  assert.deepEqual(gcPolicies(custom, 0), [
    {
      filters: ['type==regular'],
      all: true,
      keepDurationMs: 10_000,
      reservedSpace: 2 ** 20,
      maxUsedSpace: 0,
      minFreeSpace: 0,
    },
    {
      filters: [],
      all: false,
      keepDurationMs: 172_800_000,
      reservedSpace: 0,
      maxUsedSpace: 2e9,
      minFreeSpace: 0,
    },
  ]);
});

test('the whole documented file is known', async () => {
  const warnings: string[] = [];
  await parseConfigFile(
    `[cache.gha.verify]\nrequired = false\n[worker.oci.stargzSnapshotter]\nno_prometheus = true\n[frontend."gateway.v0"]\nenabled = false\n`,
    'x',
    (w) => warnings.push(w),
  );
  assert.ok(
    warnings.every((w) => !w.startsWith('unknown')),
    warnings.join('\n'),
  );
});
