import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { TempSpecs } from './temp-specs.ts';
import { applyEdits, type EditableSpec } from './edits.ts';

const golden = JSON.parse(readFileSync(new URL('edits.golden.json', import.meta.url), 'utf8')) as {
  spec: string;
  cases: { devices: string[]; result: Record<string, unknown> }[];
};
const SPEC: EditableSpec = {
  process: { env: ['PATH=/bin', 'A=1'], user: { uid: 5, gid: 6, additionalGids: [6] } },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro'] },
    { destination: '/etc/hosts', type: 'bind', source: '/h', options: ['ro'] },
  ],
  linux: { resources: { devices: [{ allow: false, access: 'rwm' }] } },
};

test('devices change a spec as they do in BuildKit', () => {
  using specs = new TempSpecs({ 'a.yaml': golden.spec });
  for (const { devices, result } of golden.cases) {
    const names = specs.registry.find(devices.map((name) => ({ name, optional: false })));
    const edited = applyEdits(SPEC, specs.registry.edits(names));
    const { process, mounts, hooks, linux } = edited;
    const { env, user } = process;
    const own = { env, additionalGids: user.additionalGids, mounts, ...(hooks ? { hooks } : {}), linux };
    assert.deepEqual(JSON.parse(JSON.stringify(own)), result, devices.join());
  }
});

test('what a device sets takes the place of what was there', () => {
  using specs = new TempSpecs({
    'a.yaml':
      'cdiVersion: 0.6.0\nkind: v.com/d\ndevices:\n- {name: a, containerEdits: {env: ["A=2", "A=3"]}}\n' +
      '- {name: b, containerEdits: {deviceNodes: [{path: /dev/x, hostPath: /nowhere}]}}\n' +
      '- {name: c, containerEdits: {deviceNodes: [{path: /dev/null, type: b}]}}\n' +
      '- {name: e, containerEdits: {deviceNodes: [{path: /etc/passwd}]}}\n',
  });
  const edit = (name: string) => applyEdits(SPEC, specs.registry.edits([`v.com/d=${name}`]));
  assert.deepEqual(edit('a').process.env, ['PATH=/bin', 'A=3']);
  assert.throws(() => edit('b'), {
    message: 'failed to stat CDI host device "/nowhere": no such file or directory',
  });
  assert.throws(() => edit('c'), {
    message: 'CDI device ("/dev/null", "/dev/null"), host type mismatch (b, c)',
  });
  assert.throws(() => edit('e'), { message: /"\/etc\/passwd": not a device node$/ });
});
