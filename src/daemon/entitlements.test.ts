import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TempSpecs } from '../executor/cdi/temp-specs.ts';
import { allowDevices, type Entitlement, grantEntitlements, parseEntitlement } from './entitlements.ts';

const ALL: ReadonlySet<Entitlement> = new Set(['network.host', 'security.insecure', 'device']);

test('texts of entitlements', () => {
  assert.deepEqual(parseEntitlement('network.host'), { name: 'network.host', devices: undefined });
  assert.deepEqual(parseEntitlement('device').devices, { all: true, names: new Map() });
  assert.deepEqual(parseEntitlement('device=a/b=c').devices, { all: false, names: new Map([['a/b=c', '']]) });
  assert.deepEqual(parseEntitlement('device=a/b=c,alias=x').devices?.names, new Map([['x', 'a/b=c']]));
  for (const [text, message] of [
    ['root', 'unknown entitlement root'],
    ['', 'unknown entitlement '],
    ['network.host=x', 'unknown entitlement network.host=x'],
    ['device=a,x', 'invalid device config "x"'],
    ['device=a,x=y', 'unknown device config key "x"'],
  ] as const)
    assert.throws(() => parseEntitlement(text), { message });
});

test('a request gets what it asks for and the daemon allows', () => {
  const granted = grantEntitlements(['device=a', 'network.host', 'device=b,alias=c'], ALL);
  assert.deepEqual([...granted.names], ['device', 'network.host']);
  assert.deepEqual(granted.devices, {
    all: false,
    names: new Map([
      ['a', ''],
      ['c', 'b'],
    ]),
  });
  assert.equal(grantEntitlements(['device=a', 'device'], ALL).devices?.all, true);
  assert.equal(grantEntitlements([], ALL).devices, undefined);
  assert.throws(() => grantEntitlements(['security.insecure'], new Set(['device'])), {
    message: 'granting entitlement security.insecure is not allowed by build daemon configuration',
  });
});

test('devices: granted, allowed by themselves, under another name, or refused', () => {
  const spec = (kind: string, more: string): string =>
    `cdiVersion: 0.6.0\nkind: ${kind}\n${more}devices:\n` +
    ['a', 'b'].map((name) => `- {name: ${name}, containerEdits: {env: [X=${name}]}}\n`).join('');
  const auto = 'annotations: {org.mobyproject.buildkit.device.autoallow: true}\n';
  using specs = new TempSpecs({ 'v.yaml': spec('v.com/d', ''), 'auto.yaml': spec('auto.com/d', auto) });
  const allow = (requests: string[], ...grants: string[]): string[] =>
    allowDevices(
      requests.map((name) => ({ name, optional: name.endsWith('=none') })),
      grantEntitlements(grants, ALL).devices,
      specs.registry,
    ).map(({ name }) => name);
  const refused = (requests: string[], message: string, ...grants: string[]): void =>
    assert.throws(() => allow(requests, ...grants), { message });
  assert.deepEqual(allow(['auto.com/d=*']), ['auto.com/d=a', 'auto.com/d=b']);
  assert.deepEqual(allow(['v.com/d=*'], 'device'), ['v.com/d=*'], 'everything is granted: as written');
  assert.deepEqual(allow(['v.com/d'], 'device=v.com/d=a'), ['v.com/d=a']);
  assert.deepEqual(allow(['v.com/d=*', 'auto.com/d'], 'device=v.com/d=*'), [
    'v.com/d=a',
    'v.com/d=b',
    'auto.com/d=a',
  ]);
  assert.deepEqual(allow(['gpu'], 'device=v.com/d=b,alias=gpu'), ['v.com/d=b']);
  assert.deepEqual(allow(['v.com/d=none']), [], 'optional and not there');
  refused(['v.com/d=a'], 'device v.com/d=a is requested by the build but not allowed');
  refused(
    ['v.com/d=*'],
    'devices v.com/d=a, v.com/d=b are requested by the build but not allowed',
    'device=auto.com/d=a',
  );
  refused(['v.com/d=*'], 'device v.com/d=b is requested by the build but not allowed', 'device=v.com/d=a');
  refused(
    Array.from({ length: 1001 }, (_, i) => `v.com/d=${i}`),
    '1001 devices are too many for a step, at most 1000',
    'device',
  );
  refused(['v.com/x'], 'required device "v.com/x" is not registered');
  refused(['v.com/d=a'], 'required device "w.com/d" is not registered', 'device=w.com/d');
});
