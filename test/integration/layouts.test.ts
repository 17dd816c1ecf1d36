// Images and blobs of OCI layout folders that the client lends.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Definition } from '../../src/pb/ops.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { imageBlob, ociLayoutBlob } from '../../src/llb/source.ts';
import type { State } from '../../src/llb/state.ts';
import { busyboxLayer, Daemon, digest as digestOf, Registry, TempDir } from './harness.ts';

let daemon: Daemon;
let registry: Registry;
const dir = new TempDir();
const PLATFORMS = ['--opt', 'platform=linux/amd64,linux/arm64'];

before(async () => {
  registry = await Registry.start();
  daemon = await Daemon.start({ config: registry.config });
  dir.write({ 'base/rootfs.tar': busyboxLayer(), 'base/sub/Dockerfile': '' });
  dir.write({
    'base/Dockerfile': 'FROM scratch\nARG TARGETARCH\nADD rootfs.tar /\nENV ARCH=$TARGETARCH\n',
    'ctx/Dockerfile':
      'FROM base AS build\nRUN cat /bin/busybox | wc -c >/size && echo "$ARCH" >/arch\n' +
      'FROM scratch\nCOPY --from=build /arch /size /\nCOPY --from=base /etc/passwd /\n',
  });
  await daemon.build(dir.join('base'), [
    ...PLATFORMS,
    '--output',
    `type=oci,tar=false,dest=${dir.join('layout')}`,
  ]);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

function rootDigest(): string {
  return JSON.parse(readFileSync(dir.join('layout/index.json'), 'utf8')).manifests[0].digest;
}

function withLayout(context = 'base', name = 'store'): string[] {
  const value = `context:${context}=oci-layout://${name}@${rootDigest()}`;
  return ['--oci-layout', `store=${dir.join('layout')}`, '--opt', value];
}

test('a named context is an image of a layout, whose layers come when they are needed', async () => {
  await using other = await Daemon.start({ config: registry.config });
  const out = dir.join('out');
  const output = ['--output', `type=local,dest=${out}`];
  const { stderr } = await other.build(dir.join('ctx'), [...withLayout(), ...output]);
  assert.match(stderr, /\[context base\] load metadata for docker\.io\/library\/base@sha256:/);
  assert.match(stderr, /\[context base\] OCI load from client/);
  assert.equal(readFileSync(`${out}/arch`, 'utf8'), 'amd64\n');
  assert.ok(Number(readFileSync(`${out}/size`, 'utf8')) > 100_000);
  // The platform asked for decides which image of the index it is.
  const config = dir.join('config');
  await other.build(dir.join('ctx'), [
    ...withLayout('base::linux/arm64'),
    ...['--opt', 'platform=linux/arm64', '--opt', 'target=base-arm'],
    ...['--local', `dockerfile=${dir.write({ 'arm/Dockerfile': 'FROM base AS base-arm\n' })}/arm`],
    ...['--output', `type=oci,tar=false,dest=${config}`],
  ]);
  const image = execFileSync('skopeo', ['inspect', '--config', `oci:${config}:latest`]).toString();
  assert.equal(JSON.parse(image).architecture, 'arm64');
  assert.ok(JSON.parse(image).config.Env.includes('ARCH=arm64'));
});

test('what is wrong with a layout is told', async () => {
  const build = async (args: string[]): Promise<string> => {
    const { code, stderr } = await daemon.tryBuild(dir.join('ctx'), args);
    assert.equal(code, 1);
    return stderr;
  };
  assert.match(await build(['--oci-layout', 'store']), /oci-layout option must be 'id=path\/to\/layout'/);
  assert.match(
    await build(['--oci-layout', `store=${dir.join('nowhere')}`]),
    /oci-layout context at .*nowhere failed to initialize/,
  );
  assert.match(await build(withLayout('base', 'other')), /unknown store oci:other/);
  assert.match(
    await build(['--opt', `context:base=oci-layout://store@${rootDigest()}`]),
    /method \/containerd\.services\.content\.v1\.Content\/Info not supported by the client/,
  );
});

test('images of several platforms are pushed as one index that others can copy', async () => {
  const name = `${registry.host}/multi/base:1`;
  await daemon.build(dir.join('base'), [...PLATFORMS, '--output', `type=image,name=${name},push=true`]);
  const copy = dir.join('copy');
  execFileSync('skopeo', [
    'copy',
    '-q',
    '--all',
    '--src-tls-verify=false',
    `docker://${name}`,
    `oci:${copy}`,
  ]);
  for (const architecture of ['amd64', 'arm64']) {
    const args = ['inspect', '--config', '--override-arch', architecture, `oci:${copy}`];
    const { config } = JSON.parse(execFileSync('skopeo', args).toString());
    assert.ok(config.Env.includes(`ARCH=${architecture}`));
  }
});

/** Builds a graph and gives back the file `name` of its result. */
async function fileOf(state: State, name: string, args: string[] = []): Promise<string> {
  const out = dir.join('blob');
  rmSync(out, { recursive: true, force: true });
  const input = Definition.encode(marshal(state)).finish();
  const command = ['build', '--progress', 'plain', '--output', `type=local,dest=${out}`, ...args];
  const { code, stderr } = await daemon.buildctl(command, { input });
  assert.equal(code, 0, stderr);
  return readFileSync(`${out}/${name}`, 'utf8');
}

test('a single blob of a layout or a repository is a file', async () => {
  const digest = rootDigest();
  const index = readFileSync(dir.join('layout/blobs/sha256', digest.slice(7)), 'utf8');
  const blob = ociLayoutBlob(`any/name@${digest}`, { storeId: 'store', filename: 'index.json' });
  const layouts = ['--oci-layout', `store=${dir.join('layout')}`];
  assert.equal(await fileOf(blob, 'index.json', layouts), index);

  await registry.pushBusybox('blobs/busybox');
  const { config } = (await registry.manifest('blobs/busybox', 'latest')) as { config: { digest: string } };
  const text = await fileOf(
    imageBlob(`${registry.host}/blobs/busybox@${config.digest}`),
    config.digest.slice(7),
  );
  assert.equal(JSON.parse(text).os, 'linux');
  // Larger than any manifest may be.
  const big = Buffer.alloc(5 << 20, 'x');
  await registry.pushImage('blobs/big', 'latest', [big]);
  const layer = imageBlob(`${registry.host}/blobs/big@${digestOf(big)}`, { filename: 'big' });
  assert.equal((await fileOf(layer, 'big')).length, big.length);
});
