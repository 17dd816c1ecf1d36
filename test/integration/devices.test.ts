// CDI devices, from a specification on disk into a step, and what guards them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon, Registry, TempDir } from './harness.ts';

const SPEC = `cdiVersion: "0.6.0"
kind: "vendor1.com/device"
containerEdits:
  env: [COMMON=1]
devices:
- name: foo
  annotations:
    org.mobyproject.buildkit.device.autoallow: true
    org.mobyproject.buildkit.device.class: class1
  containerEdits:
    env: [FOO=injected]
    deviceNodes:
    - path: /dev/cdi-null
      hostPath: /dev/null
      permissions: rw
    mounts:
    - hostPath: DIR/host-file
      containerPath: /opt/from-host
      options: [ro, bind]
- name: guarded
  containerEdits:
    env: [GUARDED=1]
`;

let registry: Registry;
let daemon: Daemon;
const dir = new TempDir();

/** The labs channel's instructions without its image. */
const OWN_SYNTAX = '[frontend."dockerfile.v0"]\nstandsInFor = ["docker/dockerfile"]\n';

before(async () => {
  dir.write({
    'cdi/dev.yaml': SPEC.replace('DIR', dir.path),
    'cdi/bad.json': '{',
    'host-file': 'from the host',
  });
  registry = await Registry.start();
  await registry.pushBusybox();
  const config = `${registry.config}${OWN_SYNTAX}`;
  daemon = await Daemon.start({ config, args: ['--cdi-spec-dir', dir.join('cdi')] });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

function context(name: string, ...instructions: string[]): string {
  const lines = ['# syntax=docker/dockerfile:1-labs', 'FROM busybox', ...instructions];
  dir.write({ [`${name}/Dockerfile`]: `${lines.join('\n')}\n` });
  return dir.join(name);
}

test('a worker lists its devices, also those that come later', async () => {
  const verbose = async () => (await daemon.buildctl(['debug', 'workers', '-v'])).stdout.toString();
  const before = await verbose();
  assert.match(before, /\nDevices:\n\tName:\t+vendor1\.com\/device=foo\n\tAutoAllow:\t+true\n/);
  assert.match(before, /\tName:\t+vendor1\.com\/device=guarded\n\tAutoAllow:\t+false\n/);
  dir.write({
    'cdi/late.json':
      '{"cdiVersion":"0.3.0","kind":"late.com/d","devices":[{"name":"x","containerEdits":{"env":["L=1"]}}]}',
  });
  assert.match(await verbose(), /\tName:\t+late\.com\/d=x\n/);
  assert.match(daemon.log(), /CDI setup error .*bad\.json/);
});

test('a step has the nodes, mounts and variables of its device, and the next step has not', async () => {
  const path = context(
    'use',
    'RUN --device=vendor1.com/device=foo,required --device=nobody.com/d=x echo "got $FOO $COMMON $(cat /opt/from-host) $(stat -c "%F %t:%T" /dev/cdi-null)" && echo x > /dev/cdi-null',
    'RUN echo "then [$FOO] $(ls /dev/cdi-null /opt 2>&1 | tr "\\n" " ")"',
  );
  const { stderr } = await daemon.build(path);
  assert.match(stderr, / got injected 1 from the host character special file 1:3\n/);
  assert.match(stderr, / then \[\] ls: \/dev\/cdi-null: No such file/);
  const byClass = context('class', 'RUN --device=class1 echo "class $FOO"');
  assert.match((await daemon.build(byClass)).stderr, / class injected\n/);
});

test('a device is used only by builds that were granted it', async () => {
  const path = context('guarded', 'RUN --device=vendor1.com/device=guarded,required echo "guarded $GUARDED"');
  const refused = await daemon.tryBuild(path);
  assert.equal(refused.code, 1);
  assert.match(
    refused.stderr,
    /device vendor1\.com\/device=guarded is requested by the build but not allowed/,
  );
  for (const allow of ['device', 'device=vendor1.com/device=guarded']) {
    const { stderr } = await daemon.build(path, ['--no-cache', '--allow', allow]);
    assert.match(stderr, / guarded 1\n/);
  }
  const aliased = context('aliased', 'RUN --device=gpu,required echo "alias $GUARDED"');
  const { stderr } = await daemon.build(aliased, ['--allow', 'device=vendor1.com/device=guarded,alias=gpu']);
  assert.match(stderr, / alias 1\n/);
  const missing = context('missing', 'RUN --device=nobody.com/d=x,required true');
  assert.match(
    (await daemon.tryBuild(missing)).stderr,
    /required device "nobody\.com\/d=x" is not registered/,
  );
});

test('only files of the labs channel name devices', async () => {
  dir.write({ 'stable/Dockerfile': 'FROM busybox\nRUN --device=vendor1.com/device=foo true\n' });
  const { code, stderr } = await daemon.tryBuild(dir.join('stable'));
  assert.equal(code, 1);
  assert.match(stderr, /Dockerfile:2\n-+\n.*\n +2 \| >>> RUN --device=/);
  assert.match(stderr, /device feature is only supported in Dockerfile frontend 1\.14\.0-labs or later\n/);
});

test('a device that the machine has not is said', async () => {
  dir.write({
    'cdi/gone.json': JSON.stringify({
      cdiVersion: '0.6.0',
      kind: 'gone.com/d',
      annotations: { 'org.mobyproject.buildkit.device.autoallow': 'true' },
      devices: [{ name: 'x', containerEdits: { deviceNodes: [{ path: '/dev/gone' }] } }],
    }),
  });
  const path = context('gone', 'RUN --device=gone.com/d=x,required true');
  assert.match(
    (await daemon.tryBuild(path)).stderr,
    /did not complete successfully: CDI device injection failed: failed to inject devices: failed to stat CDI host device "\/dev\/gone": no such file or directory\n/,
  );
});

test('without CDI there are no devices', async () => {
  await using plain = await Daemon.start({
    config: `${registry.config}${OWN_SYNTAX}`,
    args: ['--cdi-spec-dir', dir.join('cdi'), '--cdi-disabled'],
  });
  const path = context('off', 'RUN --device=vendor1.com/device=foo,required true');
  assert.match(
    (await plain.tryBuild(path)).stderr,
    /required device "vendor1\.com\/device=foo" is not registered/,
  );
  assert.match(
    (await plain.tryBuild(path, ['--allow', 'device'])).stderr,
    /granting entitlement device is not allowed by build daemon configuration/,
  );
  assert.doesNotMatch((await plain.buildctl(['debug', 'workers', '-v'])).stdout.toString(), /Devices:/);
});
