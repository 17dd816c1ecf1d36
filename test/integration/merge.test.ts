// Merges and differences of trees: linked copies in Dockerfiles, and the steps themselves.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { build, diff, merge, requires } from '../../src/llb/combine.ts';
import { encodeDefinition } from '../../src/llb/encode.ts';
import { run } from '../../src/llb/exec.ts';
import { file, mkfile, rm } from '../../src/llb/file.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { image } from '../../src/llb/source.ts';
import { NetMode } from '../../src/llb/ops.ts';
import { type State, scratch, setNetwork } from '../../src/llb/state.ts';
import { Daemon, Registry, TempDir } from './harness.ts';
import { eventually, stateOf } from './state.ts';

let registry: Registry;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

async function layersOf(name: string): Promise<string[]> {
  const manifest = await registry.manifest(name, 'latest');
  return (manifest.layers as { digest: string }[]).map(({ digest }) => digest);
}

/** The files of an image, unpacked by a tool of others. */
async function unpacked(name: string): Promise<string[]> {
  const at = dir.join(`umoci-${name}`);
  const source = `docker://${registry.host}/${name}`;
  execFileSync('skopeo', [
    'copy',
    '--insecure-policy',
    '-q',
    '--src-tls-verify=false',
    source,
    `oci:${at}:x`,
  ]);
  execFileSync('umoci', ['--log=error', 'raw', 'unpack', '--image', `${at}:x`, `${at}-fs`]);
  const found = execFileSync('find', [`${at}-fs`, '-not', '-type', 'd', '-printf', '%P\n']).toString();
  return found.split('\n').filter((line) => line !== '' && !line.startsWith('bin/'));
}

async function solve(daemon: Daemon, state: State, output: string): Promise<void> {
  const input = encodeDefinition(marshal(state));
  const built = await daemon.buildctl(['build', '--progress', 'plain', '--output', output], { input });
  assert.equal(built.code, 0, built.stderr);
}

for (const snapshotter of ['overlayfs', 'native'])
  test(`${snapshotter}: a linked copy is a layer of its own that fits on any base`, async () => {
    const args = ['--oci-worker-snapshotter', snapshotter];
    await using daemon = await Daemon.start({ config: registry.config, args });
    const context = dir.write({
      'link/one': '1\n',
      'link/Dockerfile': [
        'ARG BASE=first',
        'FROM busybox AS first',
        'RUN mkdir -p /opt && echo old > /opt/one && echo kept > /opt/kept',
        'FROM first AS second',
        'RUN rm -r /opt && ln -s tmp /opt',
        'FROM ${BASE}',
        'COPY --link one /opt/',
        'ADD --link one /opt/again',
        'RUN cat /opt/one /opt/again > /seen; ls /opt > /list',
      ].join('\n'),
    });
    const build = async (base: string) => {
      const name = `${snapshotter}-${base}`;
      const output = `type=image,name=${registry.host}/${name},push=true`;
      const { stderr } = await daemon.build(`${context}/link`, [
        '--opt',
        `build-arg:BASE=${base}`,
        '--output',
        output,
      ]);
      return { stderr, layers: await layersOf(name), files: await unpacked(name) };
    };
    const first = await build('first');
    const second = await build('second');
    // Copy and merge are one step to the eye.
    assert.match(first.stderr, /\[stage-2 1\/3\] COPY --link one \/opt\/\n/);
    assert.deepEqual([first.layers.length, second.layers.length], [5, 6]);
    assert.deepEqual(first.layers.slice(2, 4), second.layers.slice(3, 5));
    assert.deepEqual(first.files.filter((name) => name.startsWith('opt/')).sort(), [
      'opt/again',
      'opt/kept',
      'opt/one',
    ]);
    // The link that the base has is replaced, not followed.
    assert.deepEqual(second.files.filter((name) => name.startsWith('opt')).sort(), ['opt/again', 'opt/one']);
    const list = dir.join(`umoci-${snapshotter}-second-fs`);
    assert.equal(readFileSync(`${list}/seen`, 'utf8'), '1\n1\n');
    assert.equal(readFileSync(`${list}/list`, 'utf8'), 'again\none\n');
    const usage = (await daemon.buildctl(['du', '--verbose'])).stdout.toString();
    assert.match(usage, /Description:\s+\[stage-2 1\/3\] LINK COPY --link one \/opt\//);
    assert.equal((await daemon.buildctl(['prune', '--all'])).code, 0);
    assert.match((await daemon.buildctl(['du'])).stdout.toString(), /Total:\s+0B/);
  });

test('merges, differences and passed results of definitions', async () => {
  const other = await registry.pushImage('other', 'latest', [
    execFileSync('tar', ['-C', dir.write({ 'other/extra': 'x\n' }), '-c', 'other/extra']),
  ]);
  await using daemon = await Daemon.start({ config: registry.config });
  const base = image('docker.io/library/busybox:latest');
  const push = (name: string) => `type=image,name=${registry.host}/${name},push=true`;
  const merged = merge([base, image(other), file(scratch(), [mkfile('/own', 0o600, 'mine\n')])]);
  await solve(daemon, merged, push('merged'));
  const layers = await layersOf('merged');
  assert.deepEqual(layers.slice(0, 2), [
    ...(await layersOf('library/busybox')),
    ...(await layersOf('other')),
  ]);
  assert.deepEqual((await unpacked('merged')).sort(), ['etc/group', 'etc/passwd', 'other/extra', 'own']);
  const usage = (await daemon.buildctl(['du', '--verbose'])).stdout.toString();
  assert.match(usage, /Description:\s+merge \(docker-image:\/\/docker\.io\/library\/busybox:latest, /);

  const changed = file(run(merged, { args: ['sh', '-c', 'cat /own /other/extra > /both'] }).root, [
    rm('/own'),
  ]);
  await solve(daemon, diff(merged, changed), push('changed'));
  assert.deepEqual(await unpacked('changed'), ['both']);
  assert.equal((await layersOf('changed')).length, 2);
  const out = dir.join('applied');
  await solve(daemon, merge([merged, diff(merged, changed)]), `type=local,dest=${out}`);
  assert.equal(readFileSync(`${out}/both`, 'utf8'), 'mine\nx\n');
  assert.throws(() => readFileSync(`${out}/own`), /ENOENT/);

  const waits = requires(file(scratch(), [mkfile('/a', 0o600, 'a')]), 'after', [merged, changed]);
  await solve(daemon, waits, `type=local,dest=${dir.join('passed')}`);
  assert.equal(readFileSync(dir.join('passed/a'), 'utf8'), 'a');
  await eventually(() => assert.deepEqual(stateOf(daemon).mounts, []));
});

test('a build step solves the definition that another step has written, under the same rules', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const base = image('docker.io/library/busybox:latest');
  const nested = (state: State, filename?: string): State => {
    const path = filename ?? '/buildkit.llb.definition';
    const written = file(scratch(), [mkfile(path, 0o600, encodeDefinition(marshal(state)))]);
    return build(written, filename === undefined ? {} : { filename });
  };
  const made = run(base, { args: ['sh', '-c', 'echo nested > /out'] }).root;
  await solve(daemon, nested(nested(made, '/own.llb')), `type=local,dest=${dir.join('nested')}`);
  assert.equal(readFileSync(dir.join('nested/out'), 'utf8'), 'nested\n');
  const refused = async (state: State): Promise<string> => {
    const input = encodeDefinition(marshal(state));
    const { code, stderr } = await daemon.buildctl(['build', '--progress', 'plain'], { input });
    assert.notEqual(code, 0);
    return stderr;
  };
  const onHost = run(setNetwork(base, NetMode.HOST), { args: ['true'] }).root;
  assert.match(await refused(nested(onHost)), /failed to load LLB: network\.host is not allowed/);
  assert.match(await refused(build(base)), /buildkit\.llb\.definition: no such file or directory/);
  assert.match(await refused(build(base, { filename: '/bin/busybox' })), /failed to load LLB/);
  assert.match(await refused(build(base, { filename: '/bin' })), /\/bin/);
  assert.equal((await daemon.buildctl(['prune', '--all'])).code, 0);
  assert.match((await daemon.buildctl(['du'])).stdout.toString(), /Total:\s+0B/);
  await eventually(() => assert.deepEqual(stateOf(daemon).mounts, []));
});
