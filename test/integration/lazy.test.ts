// Layers of bases and imported caches that nobody needs are not downloaded, and those that are known are not sent again.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { type FaultyServer, startFaulty } from '../../src/testing/registry.ts';
import { busyboxLayer, Daemon, digest, Registry, TempDir } from './harness.ts';

const FLAGS = ['--sort=name', '--mtime=@1600000000', '--owner=0', '--group=0', '--numeric-owner'];

let registry: Registry;
let other: Registry;
let counting: FaultyServer;
let writer: Daemon;
let reader: Daemon;
let from = 0;
/** Layers of the base, and of another image that is large. */
let base: string[] = [];
let second: string[] = [];
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  other = await Registry.start();
  counting = await startFaulty(registry.host, () => undefined);
  const layers = [busyboxLayer(), layerOf('a'), layerOf('b')];
  base = layers.map(digest);
  await registry.pushImage('base/three', 'latest', layers);
  const more = [layerOf('c'), layerOf('d')];
  second = more.map(digest);
  await registry.pushImage('base/data', 'latest', more);
  const config = `[registry."${counting.host}"]\nhttp = true\n${other.config}`;
  writer = await Daemon.start({ config });
  reader = await Daemon.start({ config });
  const host = counting.host;
  dir.write({
    'label/Dockerfile': `FROM ${host}/base/three\nLABEL a=b\n`,
    'link/Dockerfile': `FROM ${host}/base/three\nCOPY --link Dockerfile /\n`,
    'unused/Dockerfile': `FROM ${host}/base/data AS unused\nRUN x\nFROM scratch\nCOPY Dockerfile /\n`,
    'stages/Dockerfile':
      `FROM ${host}/base/three AS tools\nRUN head -c 100000 /dev/urandom >/tool\n` +
      `FROM ${host}/base/three AS left\nCOPY --from=tools /tool /\nRUN sha256sum /tool >/left\n` +
      `FROM ${host}/base/three AS right\nRUN head -c 100000 /dev/urandom >/right\n` +
      'FROM left\nCOPY --from=right /right /\nRUN echo last >/last\n',
  });
  dir.write({
    'changed/Dockerfile': readFileSync(dir.join('stages/Dockerfile'), 'utf8').replace(
      'echo last',
      'echo new',
    ),
  });
});

after(async () => {
  await reader?.[Symbol.asyncDispose]();
  await writer?.[Symbol.asyncDispose]();
  await counting?.[Symbol.asyncDispose]();
  await other?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

beforeEach(async () => {
  await reader.buildctl(['prune', '--all']);
  from = counting.seen.length;
});

/** A layer of one file that does not compress. */
function layerOf(name: string): Buffer {
  using folder = new TempDir();
  folder.write({ [name]: randomBytes(200_000) });
  return execFileSync('tar', [...FLAGS, '-C', folder.path, '-c', '.'], { maxBuffer: 64 << 20 });
}

/** Digests of what was downloaded since the beginning of the test, manifests left out. */
function downloads(): string[] {
  const gets = counting.seen
    .slice(from)
    .filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));
  return gets.map(({ url }) => url.slice(url.indexOf('sha256:'))).sort();
}

function count(method: string, part: string): number {
  return counting.seen.slice(from).filter((one) => one.method === method && one.url.includes(part)).length;
}

const pushTo = (name: string, host = counting.host): string[] => [
  '--output',
  `type=image,name=${host}/${name},push=true`,
];
const layersOf = async (name: string, at = registry): Promise<string[]> =>
  ((await at.manifest(name, 'latest')).layers as { digest: string }[]).map((layer) => layer.digest);

test('a base that no step needs is not downloaded, and is taken over by the repository pushed to', async () => {
  await reader.build(dir.join('label'), pushTo('made/label'));
  assert.deepEqual(layersIn(downloads(), base), []);
  assert.equal(count('POST', 'mount='), 3);
  assert.deepEqual(await layersOf('made/label'), base);
  from = counting.seen.length;
  await reader.build(dir.join('link'), pushTo('made/link'));
  assert.deepEqual(layersIn(downloads(), base), []);
  assert.equal((await layersOf('made/link')).length, 4);
});

test('nor is a stage that nothing is copied from', async () => {
  await reader.build(dir.join('unused'), pushTo('made/unused'));
  assert.deepEqual(layersIn(downloads(), second), []);
});

test('to another registry the base goes straight through, once and as it is', async () => {
  await reader.build(dir.join('label'), pushTo('made/label', other.host));
  assert.deepEqual(layersIn(downloads(), base), [...base].sort());
  assert.deepEqual(await layersOf('made/label', other), base);
});

test('of an imported cache only what a step needs is downloaded', async () => {
  const cache = `${counting.host}/cache/stages`;
  const exported = ['--export-cache', `type=registry,ref=${cache},mode=max`];
  await writer.build(dir.join('stages'), [...exported, ...pushTo('made/stages')]);
  const layers = await layersOf('cache/stages');
  const image = await layersOf('made/stages');
  const imported = ['--import-cache', `type=registry,ref=${cache}`];

  // All steps are known and nobody looks at the result.
  from = counting.seen.length;
  await reader.build(dir.join('stages'), imported);
  assert.deepEqual(layersIn(downloads(), layers), []);

  // The same, pushed: taken over, byte for byte, and neither compressed nor read.
  await reader.buildctl(['prune', '--all']);
  from = counting.seen.length;
  await reader.build(dir.join('stages'), [...imported, ...pushTo('made/again')]);
  assert.deepEqual(layersIn(downloads(), layers), []);
  assert.deepEqual(await layersOf('made/again'), image);
  assert.equal(count('PUT', '/blobs/'), 1, 'the config');

  // Another last step: what is below it, and not the stages it was copied from.
  await reader.buildctl(['prune', '--all']);
  from = counting.seen.length;
  await reader.build(dir.join('changed'), [...imported, ...pushTo('made/changed')]);
  const below = image.slice(0, -1);
  assert.deepEqual(layersIn(downloads(), layers), [...below].sort());
  assert.deepEqual((await layersOf('made/changed')).slice(0, -1), below);
  assert.equal(count('PUT', '/blobs/'), 2, 'the new layer and the config');
});

test('a cache that was imported is exported elsewhere without being read or sent', async () => {
  const imported = ['--import-cache', `type=registry,ref=${counting.host}/cache/stages`];
  const exported = ['--export-cache', `type=registry,ref=${counting.host}/cache/second,mode=max`];
  await reader.build(dir.join('stages'), [...imported, ...exported]);
  const layers = await layersOf('cache/stages');
  assert.deepEqual(layersIn(downloads(), layers), []);
  assert.deepEqual(await layersOf('cache/second'), layers);
  assert.equal(count('PUT', '/blobs/'), 1, 'the config');

  // In another registry they must arrive, with the digests they had.
  await reader.buildctl(['prune', '--all']);
  from = counting.seen.length;
  const far = ['--export-cache', `type=registry,ref=${other.host}/cache/far,mode=max`];
  await reader.build(dir.join('stages'), [...imported, ...far]);
  assert.deepEqual(await layersOf('cache/far', other), layers);
  assert.deepEqual(layersIn(downloads(), layers), [...new Set(layers)].sort());
});

function layersIn(found: readonly string[], layers: readonly string[]): string[] {
  return found.filter((one) => layers.includes(one));
}
