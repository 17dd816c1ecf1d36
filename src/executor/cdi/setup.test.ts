import assert from 'node:assert/strict';
import { chmodSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { deviceSetups, SETUP_KINDS } from './setup.ts';
import { TempSpecs } from './temp-specs.ts';

const signal = new AbortController().signal;
const TOOL = `#!/bin/sh
echo "looking" >&2
[ -e /nowhere ] || echo 'cdiVersion: "0.5.0"'
echo 'kind: nvidia.com/gpu
devices: [{name: "0", containerEdits: {env: ["ARGS='"$*"'"]}}]'
`;

function machine(files: Readonly<Record<string, string>>, kernel = '6.1.0') {
  const specs = new TempSpecs(files);
  const root = join(specs.dir, 'root');
  const specDir = join(specs.dir, '1');
  const setups = deviceSetups(SETUP_KINDS, { specDir, searchPath: join(specs.dir, 'bin'), root, kernel });
  return { specs, setups, [Symbol.dispose]: () => specs[Symbol.dispose]() };
}

test('no device is offered where there is none', () => {
  using plain = machine({ '../root/sys/bus/pci/devices/0000:00/vendor': '0x8086\n' });
  assert.deepEqual(
    plain.setups.map(({ kind, problem }) => [kind, problem()]),
    [
      ['nvidia.com/gpu', 'no NVIDIA devices found'],
      ['docker.com/gpu', 'docker.com/gpu currently requires a linuxkit kernel'],
    ],
  );
  assert.deepEqual(deviceSetups([], { specDir: '/x', searchPath: '' }), []);
});

test('NVIDIA: what the tool says becomes a specification', async () => {
  using found = machine({
    '../root/proc/driver/nvidia/version': 'x',
    '../bin/nvidia-ctk': TOOL,
  });
  chmodSync(join(found.specs.dir, 'bin/nvidia-ctk'), 0o755);
  const [nvidia] = found.setups;
  assert.equal(nvidia?.problem(), undefined);
  const said: string[] = [];
  await nvidia?.run((text) => said.push(text), signal);
  assert.equal(said.join(''), '> nvidia-ctk cdi generate\nlooking\n');
  assert.deepEqual(found.specs.registry.edits(['nvidia.com/gpu=0'])[1], { env: ['ARGS=cdi generate'] });
  const aborted = AbortSignal.abort(new Error('stop'));
  await assert.rejects(async () => nvidia?.run(() => {}, aborted), /stop/);
});

test('NVIDIA: a missing driver and a missing tool are said', async () => {
  using device = machine({ '../root/sys/bus/pci/devices/0000:00/vendor': '0x10de\n' });
  assert.equal(device.setups[0]?.problem(), undefined);
  await assert.rejects(async () => device.setups[0]?.run(() => {}, signal), /NVIDIA drivers are required/);
  using driver = machine({ '../root/proc/driver/nvidia/version': 'x' });
  await assert.rejects(async () => driver.setups[0]?.run(() => {}, signal), /nvidia-ctk is not in the PATH/);
  assert.deepEqual(readdirSync(driver.specs.dir), ['root']);
});

test('the virtual GPU of Docker Desktop', async () => {
  using half = machine({ '../root/dev/dri/renderD128': '' }, '6.1.0-linuxkit');
  assert.match(half.setups[1]?.problem() ?? '', /no device \/dev\/dri\/card0/);
  using found = machine({ '../root/dev/dri/renderD128': '', '../root/dev/dri/card0': '' }, '6.1.0-linuxkit');
  assert.equal(found.setups[1]?.problem(), undefined);
  await found.setups[1]?.run(() => {}, signal);
  assert.deepEqual(
    found.specs.registry.list().map(({ name }) => name),
    ['docker.com/gpu=venus'],
  );
});
