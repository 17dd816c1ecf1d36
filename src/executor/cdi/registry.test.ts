import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceSetup } from './setup.ts';
import { TempSpecs } from './temp-specs.ts';

const file = (kind: string, ...devices: string[]): string =>
  `cdiVersion: "0.6.0"\nkind: "${kind}"\ndevices:\n${devices.join('\n')}\n`;
const device = (name: string, annotations = ''): string =>
  `- name: "${name}"\n  annotations: {${annotations}}\n  containerEdits: {env: ["D=${name}"]}`;
const CLASS = 'org.mobyproject.buildkit.device.class: one';
const AUTO = 'org.mobyproject.buildkit.device.autoallow: true';

test('names of devices: one, the first, all of a kind, a class', () => {
  using specs = new TempSpecs({
    'a.yaml': file('v1.com/d', device('b', CLASS), device('a'), device('a-b')),
    'b.json': JSON.stringify({
      cdiVersion: '0.5.0',
      kind: 'v2.com/d',
      devices: [{ name: 'x', containerEdits: { env: ['A=1'] } }],
    }),
    'c.yaml': `${file('v3.com/one', device('c'))}annotations: {${CLASS}}\n`,
    'ignored.yml': 'not read',
    README: 'not read',
  });
  const find = (name: string, optional = false) => specs.registry.find([{ name, optional }]);
  assert.deepEqual(find('v1.com/d=b'), ['v1.com/d=b']);
  assert.deepEqual(find('v1.com/d'), ['v1.com/d=a']);
  assert.deepEqual(find('v1.com/d=*'), ['v1.com/d=a', 'v1.com/d=a-b', 'v1.com/d=b']);
  assert.deepEqual(find('one'), ['v1.com/d=b', 'v3.com/one=c']);
  assert.deepEqual(find('v2.com/d=x'), ['v2.com/d=x']);
  for (const name of ['v1.com/d=none', 'v1.com', 'two', '', '=', 'v9.com/d=*', '__proto__'])
    assert.throws(() => find(name), { message: `required device ${JSON.stringify(name)} is not registered` });
  assert.deepEqual(specs.log, []);
  assert.deepEqual(find('v9.com/d', true), []);
  assert.match(specs.log.join(), /Optional device .*v9\.com\/d.* is not registered/);
  const both = ['v1.com/d=*', 'one', 'v1.com/d=a'].map((name) => ({ name, optional: false }));
  assert.deepEqual(specs.registry.find(both), ['v1.com/d=a', 'v1.com/d=a-b', 'v1.com/d=b', 'v3.com/one=c']);
});

test('files that come, change and go are seen', () => {
  using specs = new TempSpecs({});
  assert.deepEqual(specs.registry.list(), []);
  specs.write({ 'a.yaml': file('v.com/d', device('a')) });
  assert.deepEqual(
    specs.registry.list().map(({ name }) => name),
    ['v.com/d=a'],
  );
  specs.write({ 'a.yaml': file('v.com/d', device('b', AUTO)) });
  assert.deepEqual(specs.registry.list(), [
    {
      name: 'v.com/d=b',
      autoAllow: true,
      annotations: { 'org.mobyproject.buildkit.device.autoallow': 'true' },
      onDemand: false,
    },
  ]);
  rmSync(join(specs.dir, '1/a.yaml'));
  assert.deepEqual(specs.registry.list(), []);
});

test('a later directory wins; two files of one directory that disagree lose', () => {
  using specs = new TempSpecs({
    'a.yaml': file('v.com/d', device('a'), device('only')),
    'b.yaml': file('v.com/d', device('b')),
    'c.yaml': file('v.com/d', device('b')),
    '../2/a.yaml': file('v.com/d', device('a', AUTO)),
  });
  const found = specs.registry.list().map(({ name, autoAllow }) => [name, autoAllow]);
  assert.deepEqual(found, [
    ['v.com/d=a', true],
    ['v.com/d=only', false],
  ]);
  assert.match(specs.log.join(), /conflicting device v\.com\/d=b/);
});

test('devices and kinds that the configuration allows', () => {
  const files = {
    'a.yaml': file('v.com/d', device('a'), device('b')),
    'b.yaml': file('w.com/d', device('a')),
  };
  using specs = new TempSpecs(files, { autoAllowed: ['v.com/d=b', 'w.com/d'] });
  const allowed = specs.registry.list().map(({ autoAllow }) => autoAllow);
  assert.deepEqual(allowed, [false, true, true]);
});

test('a file that is no specification is named in the log and costs nothing else', () => {
  for (const [text, message] of [
    ['a: [', /line 1/],
    ['', /no data/],
    ['[]', /expected an object/],
    ['a: 1\na: 2', /Map keys must be unique/],
    [file('v.com/d'), /devices: expected a list|no devices/],
    [file('v.com/d', device('a')).replace('0.6.0', '0.6'), /invalid version "0.6"/],
    [
      file('v.com/d', device('a', AUTO)).replace('0.6.0', '0.5.0'),
      /the spec version must be at least v0.6.0/,
    ],
    [file('v/d.x', device('a')).replace('0.6.0', '0.5.0'), /must be at least v0.6.0/],
    [
      file('v.com/d', '- {name: "0", containerEdits: {env: [A=1]}}').replace('0.6.0', '0.4.0'),
      /at least v0.5.0/,
    ],
    [file('nokind', device('a')), /invalid vendor "" in kind "nokind"/],
    [file('v.com/-d', device('a')), /invalid class "-d"/],
    [file('v.com/d', device('a b')), /invalid device name "a b"/],
    [file('v.com/d', device('a'), device('a')), /multiple devices "a"/],
    [file('v.com/d', '- name: a'), /device "a" has no edits/],
    [file('v.com/d', '- {name: a, containerEdits: {env: [A]}}'), /invalid device "a": .*variable "A"/],
    [
      file('v.com/d', '- {name: a, containerEdits: {deviceNodes: [{path: /x, type: z}]}}'),
      /invalid type "z"/,
    ],
    [
      file('v.com/d', '- {name: a, containerEdits: {deviceNodes: [{path: /x, major: x}]}}'),
      /major: expected an integer/,
    ],
    [
      file('v.com/d', '- {name: a, containerEdits: {mounts: [{hostPath: /x}]}}'),
      /mount without containerPath/,
    ],
    [
      file('v.com/d', '- {name: a, containerEdits: {hooks: [{hookName: x, path: /x}]}}'),
      /invalid hook name "x"/,
    ],
    [
      file('v.com/d', '- {name: a, containerEdits: {netDevices: [{name: x}]}}').replace('0.6.0', '1.1.0'),
      /without hostInterfaceName/,
    ],
    [
      file('v.com/d', '- {name: a, containerEdits: {intelRdt: {closID: ".."}}}').replace('0.6.0', '1.1.0'),
      /invalid closID/,
    ],
    [`${file('v.com/d', device('a'))}more: 1\n`, /unknown field "more"/],
    [`a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: &d [*c,*c,*c,*c]\ne: [*d,*d,*d,*d]`, /./],
  ] as const) {
    using specs = new TempSpecs({ 'bad.yaml': text, 'good.yaml': file('v.com/good', device('a')) });
    assert.deepEqual(
      specs.registry.list().map(({ name }) => name),
      ['v.com/good=a'],
      text,
    );
    assert.match(specs.log.join(), /CDI setup error .*bad\.yaml/);
    assert.match(specs.log.join().replaceAll('\\"', '"'), message, text);
  }
});

test('a kind is set up when it is asked for, once for all who ask', async () => {
  let runs = 0;
  let possible = false;
  const setup: DeviceSetup = {
    kind: 'v.com/gpu',
    problem: () => (possible ? undefined : 'no such hardware'),
    run: async (progress) => {
      runs++;
      progress('working\n');
      await sleep(5);
      specs.write({ 'made.yaml': file('v.com/gpu', device('0')) });
    },
  };
  using specs = new TempSpecs({}, { setups: [setup] });
  const { registry } = specs;
  const signal = new AbortController().signal;
  assert.deepEqual(registry.list(), []);
  await assert.rejects(
    registry.prepare('v.com/gpu=0', () => {}, signal),
    {
      message: 'failed to find preconditions for v.com/gpu device: no such hardware',
    },
  );
  possible = true;
  assert.deepEqual(registry.list(), [
    { name: 'v.com/gpu', autoAllow: true, annotations: {}, onDemand: true },
  ]);
  assert.ok(registry.isOnDemand('v.com/gpu=0') && !registry.isOnDemand('w.com/gpu'));
  const stopped = new AbortController();
  const first = registry.prepare('v.com/gpu', () => {}, stopped.signal);
  const other = registry.prepare('v.com/gpu', () => {}, signal);
  stopped.abort(new Error('stopped'));
  await assert.rejects(first, /stopped/);
  await other;
  assert.equal(runs, 1);
  rmSync(join(specs.dir, '1/made.yaml'));
  runs = 0;
  const said: string[] = [];
  const ask = () => registry.prepare('v.com/gpu', (text) => said.push(text), signal);
  await Promise.all([ask(), ask()]);
  await ask();
  assert.deepEqual([runs, said], [1, ['working\n']]);
  assert.ok(!registry.isOnDemand('v.com/gpu'));
  assert.deepEqual(
    registry.list().map(({ name, autoAllow }) => [name, autoAllow]),
    [['v.com/gpu=0', true]],
  );
});
