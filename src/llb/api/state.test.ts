import assert from 'node:assert/strict';
import test from 'node:test';
import {
  bind,
  cache,
  chain,
  copy,
  defer,
  fromDefinition,
  git,
  http,
  image,
  local,
  merge,
  mkdir,
  mkfile,
  passthrough,
  readDefinition,
  type RunOptions,
  scratch,
  sourceMap,
  type State,
} from '../index.ts';

const base = image('alpine');
const platform = 'linux/amd64';

test('settings of a state can be read', async () => {
  const state = base
    .env('A', '1')
    .dir('/w')
    .user('u')
    .hostname('h')
    .network('none')
    .security('insecure')
    .platform('linux/arm')
    .extraHost('host', '::0001')
    .ulimit('nofile', 1, 2)
    .cgroupParent('c')
    .validExitCodes(0, 1);
  assert.deepEqual(await state.settings(), {
    env: { A: '1' },
    dir: '/w',
    user: 'u',
    hostname: 'h',
    platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
    network: 'none',
    security: 'insecure',
    extraHosts: [{ host: 'host', ip: '::1' }],
    ulimits: [{ name: 'nofile', soft: 1n, hard: 2n }],
    cgroupParent: 'c',
    validExitCodes: [0, 1],
  });
  assert.deepEqual((await base.settings()).env, {}, 'states do not change');
});

test('values stay with what is made of a state', async () => {
  const key = Symbol('key');
  const state = base.withValue(key, 1).withValue('other', 2).run('x').file(mkdir('/d'));
  assert.deepEqual(
    [await state.value(key), await state.value('other'), await base.value(key)],
    [1, 2, undefined],
  );
  assert.equal(await state.reset(base).value(key), undefined);
});

test('an image config in any form sets variables, directory and platform', async () => {
  const config = { os: 'linux', architecture: 'arm64', config: { Env: ['A=1'], WorkingDir: 'w' } };
  for (const form of [config, JSON.stringify(config), new TextEncoder().encode(JSON.stringify(config))]) {
    const settings = await base.dir('/base').withImageConfig(form).settings();
    assert.deepEqual(
      [settings.env, settings.dir, settings.platform?.architecture],
      [{ A: '1' }, '/base/w', 'arm64'],
    );
  }
  assert.deepEqual((await base.withImageConfig('{"config":null}').settings()).platform, undefined);
  assert.throws(() => base.withImageConfig('{'), /the image config is not JSON/);
  assert.throws(() => base.withImageConfig('null'), /no JSON object/);
});

test('mistakes show where they are made', () => {
  const run = (options: RunOptions) => () => base.run('x', options as RunOptions & { readonlyRoot?: false });
  const wrong: readonly [() => unknown, RegExp][] = [
    [() => base.run(''), /arguments are required/],
    [() => base.run([]), /arguments are required/],
    [() => base.run('a "b'), /a quote is not closed in "a \\"b"/],
    [run({ mounts: { '/': bind(base) } as never }), /an absolute path other than the root: "\/"/],
    [run({ mounts: { out: bind(base) } }), /an absolute path other than the root: "out"/],
    [run({ env: { 'A=B': '' } }), /no name of a variable: "A=B"/],
    [run({ extraHosts: [{ host: 'h', ip: '1.2.3' }] }), /failed to parse IP 1\.2\.3/],
    [run({ resources: { memory: 1.5 } }), /memory must be a whole number: 1\.5/],
    [run({ platform: 'linux/*' }), /wildcards not yet supported/],
    [() => cache(''), /a cache mount needs an id/],
    [() => scratch().file([]), /action is required/],
    [() => chain(scratch(), []), /action is required/],
    [() => mkdir('/d', { createdTime: new Date(Number.NaN) }), /createdTime is no date/],
    [() => image('Alpine'), /must be lowercase/],
    [() => image('alpine', { checksum: 'abc' }), /not a digest: abc/],
    [() => git('https://host/a.git#main'), /say ref and subdir as options/],
    [() => http('ftp://host/a'), /not an http or https address/],
    [() => scratch().build(), /needs a tree to read its definition from/],
    [() => base.requires('', [base]), /passthrough requires an id/],
    [() => scratch().requires('id', [base]), /an empty tree can not be an output of a passthrough/],
    [() => passthrough('id', [{ state: base }]), /passthrough must have at least one output/],
    [() => sourceMap({ filename: 'f', data: '' }).at(2, 1), /no lines/],
    [() => sourceMap({ filename: 'f', data: '' }).at(0), /no lines/],
    [() => fromDefinition(new Uint8Array([10, 2, 1, 1])), /./],
    [() => readDefinition(new Uint8Array([10, 200])), /./],
  ];
  for (const [make, message] of wrong) assert.throws(make, message);
});

test('a mount that gives no output is refused when the types were told otherwise', () => {
  const ran = base.run('x', { mounts: { '/ro': bind(base, { readonly: true }), '/c': cache('c') } });
  for (const destination of ['/ro', '/c', '/none', '/', '__proto__'])
    assert.throws(() => ran.output(destination as never), /no mount of the run gives an output at /);
});

test('the graph is refused when text in it is no text', async () => {
  await assert.rejects(base.run(['\ud800']).marshal(), /invalid UTF-8/);
});

test('functions given to async and defer run once for each marshal', async () => {
  let count = 0;
  const later = defer(async ({ platform: { architecture } }) => {
    count++;
    return image(`base-${architecture}`);
  });
  const graph = merge([later.run('a'), later.run('b'), later.file(copy(later, '/', '/'))]);
  assert.equal(count, 0);
  const one = await graph.marshal({ platform: 'linux/arm64' });
  assert.equal(count, 1);
  assert.deepEqual(await graph.marshal({ platform: 'linux/amd64' }).then((d) => d.head !== one.head), true);
  assert.equal(count, 2);
  const same = (arch: string): State => {
    const now = image(`base-${arch}`);
    return merge([now.run('a'), now.run('b'), now.file(copy(now, '/', '/'))]);
  };
  assert.deepEqual(one.toBytes(), (await same('arm64').marshal({ platform: 'linux/arm64' })).toBytes());
});

test('what an async function throws, or an abort, ends the marshal', async () => {
  const failing = base.async(() => {
    throw new Error('no such thing');
  });
  await assert.rejects(merge([base, failing.run('x')]).marshal(), /no such thing/);
  await assert.rejects(
    base.async(async (s) => s).marshal({ signal: AbortSignal.abort(new Error('enough')) }),
    /enough/,
  );
  const resolver = async (_: string, { signal }: { signal?: AbortSignal }) => {
    signal?.throwIfAborted();
    return { config: {} };
  };
  const asked = image('alpine', { resolver });
  await assert.rejects(asked.marshal({ signal: AbortSignal.abort(new Error('enough')) }), /enough/);
});

test('long chains, also of async states, do not need a deep stack', async () => {
  let state: State = base;
  for (let i = 0; i < 20_000; i++) state = state.file(mkfile('/f', `${i}`));
  assert.equal((await state.marshal({ platform })).digests.length, 20_001);
  let later: State = defer(() => base);
  for (let i = 0; i < 20_000; i++) later = later.file(mkfile('/f', `${i}`));
  assert.deepEqual((await later.marshal({ platform })).head, (await state.marshal({ platform })).head);
});

test('a definition knows its steps, goes to bytes and back, and becomes a state', async () => {
  const empty = await scratch().marshal();
  assert.deepEqual([empty.digests, empty.head, empty.toBytes().length], [[], undefined, 0]);
  assert.deepEqual((await fromDefinition(empty).marshal()).digests, []);
  const graph = merge([base.run('x', { customName: 'name' }), local('context')]);
  const definition = await graph.marshal({ platform, localUniqueId: 'u' });
  assert.equal(definition.digests.length, 4);
  assert.equal(definition.head, definition.digests.at(-1));
  const again = readDefinition(definition.toBytes());
  assert.deepEqual(again.toBytes(), definition.toBytes());
  assert.deepEqual(
    (await fromDefinition(again).marshal({ platform: 'linux/s390x' })).toBytes(),
    definition.toBytes(),
  );
});

test('local folders of different builds are told apart unless an id is given', async () => {
  const heads = await Promise.all(
    [{}, {}, { localUniqueId: 'u' }, { localUniqueId: 'u' }].map(
      async (options) => (await local('context').marshal(options)).head,
    ),
  );
  assert.notEqual(heads[0], heads[1]);
  assert.equal(heads[2], heads[3]);
});
