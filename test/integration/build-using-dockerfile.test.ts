// examples/build-using-dockerfile against the daemon under test; what it pipes into `docker load` is kept.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Daemon, Registry, type RunResult, run, TempDir } from './harness.ts';

const ROOT = join(import.meta.dirname, '../..');
const PROGRAM = join(ROOT, 'examples/build-using-dockerfile/main.ts');
const skip = existsSync(join(ROOT, 'dist/npm/client.mjs')) ? false : 'dist/ is not built';

let registry: Registry;
let daemon: Daemon;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
  dir.write({ 'bin/docker': '#!/bin/sh\nset -e\ntest "$1" = load\ncat > "$DOCKER_LOADED"\n' });
  chmodSync(dir.join('bin/docker'), 0o755);
  dir.write({
    'context/Dockerfile':
      'FROM busybox AS build\nARG WHO=nobody\nWORKDIR /w\nCOPY . .\nRUN echo hello $WHO > greeting\n' +
      'FROM scratch\nCOPY --from=build /w /w\nENV WHO=me\n',
    'context/.dockerignore': 'ignored\nDockerfile\n.dockerignore\n',
    'context/kept': 'kept',
    'context/ignored': 'ignored',
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

async function build(loaded: string, args: readonly string[]): Promise<RunResult> {
  const env = { PATH: `${dir.join('bin')}:${process.env.PATH}`, DOCKER_LOADED: loaded };
  return await run(process.execPath, [PROGRAM, ...args], { env });
}

function fromTar(tar: string, name: string): string {
  return execFileSync('tar', ['-xOf', tar, name]).toString();
}

for (const where of ['daemon', 'client']) {
  test(`an image is built and loaded, the frontend in the ${where}`, { skip }, async () => {
    const loaded = dir.join(`${where}.tar`);
    const flags = where === 'client' ? ['--clientside-frontend'] : [];
    const common = ['--buildkit-addr', daemon.address, '-t', 'example/app:1', '--build-arg', 'WHO=you'];
    const { code, stderr } = await build(loaded, [...flags, ...common, dir.join('context')]);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /RUN echo hello \$?\w+ > greeting/);
    assert.match(stderr, /Loaded the image "example\/app:1" to Docker\./);
    const [image] = JSON.parse(fromTar(loaded, 'manifest.json'));
    assert.deepEqual(image.RepoTags, ['example/app:1']);
    assert.deepEqual(JSON.parse(fromTar(loaded, image.Config)).config.Env.slice(-1), ['WHO=me']);
    const layer = dir.join('layer.tar');
    dir.write({ 'layer.tar': execFileSync('tar', ['-xOf', loaded, image.Layers[0]]) });
    assert.equal(fromTar(layer, 'w/greeting'), 'hello you\n');
    assert.deepEqual(execFileSync('tar', ['-tf', layer]).toString().trim().split('\n').sort(), [
      'w/',
      'w/greeting',
      'w/kept',
    ]);
  });
}

test('what is wrong is said, and nothing is loaded', { skip }, async () => {
  const context = dir.join('context');
  const cases: readonly [readonly string[], RegExp][] = [
    [[context], /error: tag is not specified/],
    [['-t', 'a'], /error: please specify build context/],
    [['-t', 'a', '-'], /error: stdin not supported yet/],
    [['-t', 'a', '--build-arg', 'A', context], /error: invalid build-arg value A/],
    [['-t', 'a', '--target', 'none', context], /error: .*target stage "none" could not be found/],
    [['-t', 'a', '--target', 'none', '--clientside-frontend', context], /error: .*"none" could not be found/],
    [['-t', 'a', '-f', join(context, 'none'), '--clientside-frontend', context], /error: .*there is no none/],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await build(dir.join('never.tar'), ['--buildkit-addr', daemon.address, ...args]);
    assert.equal(code, 1, stderr);
    assert.match(stderr, message);
  }
});
