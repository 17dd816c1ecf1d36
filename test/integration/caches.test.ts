// Caches that are exported and imported: by another daemon that has nothing yet.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { FakeAzblob, TEST_ACCOUNT } from '../../src/testing/fake-azblob.ts';
import { FakeS3, TEST_KEYS } from '../../src/testing/fake-s3.ts';
import { Daemon, Registry, TempDir } from './harness.ts';

let daemon: Daemon;
let empty: Daemon;
let registry: Registry;
const dir = new TempDir();
const context = dir.join('ctx');
/** What the exporting daemon made: a step that runs again makes another. */
let made = '';

before(async () => {
  registry = await Registry.start();
  daemon = await Daemon.start({ config: registry.config });
  empty = await Daemon.start({ config: registry.config });
  await registry.pushBusybox();
  dir.write({
    'ctx/Dockerfile':
      'FROM busybox AS first\nCOPY in.txt /\nRUN cat /proc/sys/kernel/random/uuid >/made\n' +
      'FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/own\nCOPY --from=first /made /\n',
    'ctx/in.txt': 'text',
  });
});

after(async () => {
  await empty?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const cacheRef = (name: string): string => `${registry.host}/cache/${name}`;
const output = (name: string): string[] => ['--output', `type=local,dest=${dir.join(name)}`];

function uuids(name: string): string {
  return ['made', 'own'].map((file) => readFileSync(dir.join(name, file), 'utf8')).join();
}

function steps(stderr: string): { cached: number; ran: number } {
  // The last word counts: a step that was found in a cache runs after all when its layers are not there.
  const of = (id: string): string =>
    [...stderr.matchAll(new RegExp(`^${id} (CACHED|DONE)`, 'gm'))].at(-1)?.[1] ?? '';
  const ids = [...stderr.matchAll(/^(#\d+) \[(?:first|stage-1) [^\]]*\] (?:RUN|COPY)/gm)].map((m) => m[1]!);
  const ends = [...new Set(ids)].map(of);
  return {
    cached: ends.filter((e) => e === 'CACHED').length,
    ran: ends.filter((e) => e === 'DONE').length,
  };
}

/** Builds on a daemon without records. */
async function onEmpty(args: readonly string[]) {
  await empty.buildctl(['prune', '--all']);
  const { stderr } = await empty.build(context, [...args, ...output('again')]);
  return { stderr, ...steps(stderr) };
}

test('registry: all steps with mode=max, the last ones with mode=min', async () => {
  const exports = [
    ['--export-cache', `type=registry,ref=${cacheRef('max')},mode=max`],
    ['--export-cache', `type=registry,ref=${cacheRef('min')}`],
    ['--export-cache', `type=registry,ref=${cacheRef('index')},mode=max,image-manifest=false`],
    [
      '--export-cache',
      `type=local,dest=${dir.join('cache')},mode=max,compression=zstd,force-compression=true`,
    ],
    ['--export-cache', 'type=inline'],
    ['--output', `type=image,name=${registry.host}/with-cache,push=true`],
  ].flat();
  const { stderr } = await daemon.build(context, [...exports, ...output('first')]);
  assert.deepEqual(steps(stderr), { cached: 0, ran: 4 });
  made = uuids('first');
  assert.match(stderr, /exporting cache to registry\n.*preparing build cache for export/s);
  assert.match(stderr, /writing cache image manifest sha256:[0-9a-f]{64} .*done/);
  const manifest = await registry.manifest('cache/max', 'latest');
  assert.equal(manifest.mediaType, 'application/vnd.oci.image.manifest.v1+json');
  const { mediaType } = manifest.config as { mediaType: string };
  assert.equal(mediaType, 'application/vnd.buildkit.cacheconfig.v0');
  assert.ok(!JSON.stringify(manifest).includes('RUN cat'), 'no text of steps');
  const index = await registry.manifest('cache/index', 'latest');
  assert.equal(index.mediaType, 'application/vnd.oci.image.index.v1+json');

  for (const name of ['max', 'index']) {
    const again = await onEmpty(['--import-cache', `type=registry,ref=${cacheRef(name)}`]);
    assert.deepEqual([again.cached, again.ran], [4, 0], again.stderr);
    assert.equal(uuids('again'), made);
  }
  // A change to the end of the first stage leaves what lies before it.
  const changed = dir.write({ 'changed/Dockerfile': `${readFileSync(`${context}/Dockerfile`)}RUN true\n` });
  await empty.buildctl(['prune', '--all']);
  const { stderr: more } = await empty.build(context, [
    ...['--import-cache', `type=registry,ref=${cacheRef('min')}`],
    ...['--local', `dockerfile=${changed}/changed`, ...output('again')],
  ]);
  assert.deepEqual(steps(more), { cached: 4, ran: 1 }, more);
  assert.equal(uuids('again'), made);
});

test('what was imported is exported again as it was, and is a cache of its own afterwards', async () => {
  const imported = ['--import-cache', `type=registry,ref=${cacheRef('max')}`];
  const exported = ['--export-cache', `type=registry,ref=${cacheRef('again')},mode=max`];
  await onEmpty([...imported, ...exported]);
  const config = async (name: string): Promise<unknown> => (await registry.manifest(name, 'latest')).config;
  assert.deepEqual(await config('cache/again'), await config('cache/max'));
  const { stderr } = await empty.build(context, output('again'));
  assert.deepEqual(steps(stderr), { cached: 4, ran: 0 }, stderr);
  assert.equal(uuids('again'), made);
});

test('inline: the image brings its cache along', async () => {
  const image = `${registry.host}/with-cache`;
  const again = await onEmpty(['--import-cache', `type=registry,ref=${image}`]);
  assert.deepEqual([again.cached, again.ran], [4, 0], again.stderr);
  assert.equal(uuids('again'), made);
});

test('local: a folder of the client, found by its tag', async () => {
  const cache = dir.join('cache');
  const again = await onEmpty(['--import-cache', `type=local,src=${cache}`]);
  assert.deepEqual([again.cached, again.ran], [4, 0], again.stderr);
  assert.equal(uuids('again'), made);

  const index = (): { manifests: { digest: string }[] } =>
    JSON.parse(readFileSync(`${cache}/index.json`, 'utf8'));
  const old = index().manifests[0]!.digest.replace('sha256:', `${cache}/blobs/sha256/`);
  assert.ok(existsSync(old));
  await daemon.build(context, ['--export-cache', `type=local,dest=${cache},reset=true`]);
  assert.equal(index().manifests.length, 1);
  assert.ok(!existsSync(old), 'the old manifest is gone with its tag');

  const missing = await onEmpty(['--import-cache', `type=local,src=${cache},tag=other`]);
  assert.match(missing.stderr, /local cache import at .* skipped: no digest found for tag other/);
  assert.equal(missing.ran, 4);
  rmSync(cache, { recursive: true });
});

test('s3: a bucket, under several names; secrets stay out of the progress and the history', async () => {
  await using s3 = await FakeS3.start();
  const secret = TEST_KEYS.secretAccessKey;
  const place = `type=s3,bucket=bucket,region=us-east-1,endpoint_url=http://${s3.host},use_path_style=true,access_key_id=${TEST_KEYS.accessKeyId},secret_access_key=${secret}`;
  const { stderr } = await daemon.build(context, ['--export-cache', `${place},mode=max,name=one;two`]);
  assert.match(stderr, /exporting cache to Amazon S3\n.*preparing build cache for export/s);
  assert.match(stderr, /writing layer sha256:[0-9a-f]{64} .*done/);
  const names = [...s3.objects.keys()].filter((name) => name.startsWith('bucket/manifests/'));
  assert.deepEqual(names, ['bucket/manifests/one', 'bucket/manifests/two']);
  const { length } = s3.seen;
  await daemon.build(context, ['--export-cache', `${place},mode=max,name=one`]);
  const puts = s3.seen.slice(length).filter(({ method }) => method === 'PUT');
  assert.equal(puts.length, 1, 'layers that are there are not sent again');

  const again = await onEmpty(['--import-cache', `${place},name=two`]);
  assert.deepEqual([again.cached, again.ran], [4, 0], again.stderr);
  assert.equal(uuids('again'), made);
  const nowhere = await onEmpty(['--import-cache', `${place},name=nowhere`]);
  assert.deepEqual([nowhere.cached, nowhere.ran], [0, 4], nowhere.stderr);

  for (const name of s3.objects.keys()) if (name.startsWith('bucket/blobs/')) s3.objects.delete(name);
  const dropped = await onEmpty(['--import-cache', `${place},name=two`]);
  assert.deepEqual([dropped.cached, dropped.ran], [0, 4], dropped.stderr);

  const wrong = place.replace('bucket=bucket', 'bucket=other');
  const { code, stderr: refused } = await daemon.tryBuild(context, ['--export-cache', wrong]);
  assert.equal(code, 1);
  assert.match(
    refused,
    /PutObject of s3:\/\/other\/.*: 404 NoSuchBucket: The specified bucket does not exist/,
  );
  await daemon.build(context, ['--export-cache', `${wrong},ignore-error=true`]);
  const unread = await onEmpty(['--import-cache', wrong]);
  assert.match(unread.stderr, /ERROR: GetObject of s3:\/\/other\/manifests\/buildkit: 404 NoSuchBucket/);
  assert.equal(unread.ran, 4);
  const { stdout: records } = await empty.buildctl(['debug', 'histories', '--format', '{{json .}}']);
  for (const text of [stderr, again.stderr, refused, unread.stderr, records])
    assert.ok(!text.includes(secret));
});

test('azblob: a container that is made when it is missing, asked for before the build', async () => {
  await using azure = await FakeAzblob.start();
  const place = `type=azblob,account_url=http://${azure.host}/${TEST_ACCOUNT.name},account_name=${TEST_ACCOUNT.name},container=box,secret_access_key=${TEST_ACCOUNT.key}`;
  const { stderr } = await daemon.build(context, ['--export-cache', `${place},mode=max,name=one;two`]);
  assert.match(stderr, /exporting cache to Azure Blob Storage\n.*preparing build cache for export/s);
  const names = [...azure.containers.get('box')!.keys()].filter((name) => name.startsWith('manifests/'));
  assert.deepEqual(names, ['manifests/one', 'manifests/two']);
  const again = await onEmpty(['--import-cache', `${place},name=gone;two`]);
  assert.deepEqual([again.cached, again.ran], [4, 0], again.stderr);
  assert.match(again.stderr, /importing cache manifest from azblob:\d+/);
  assert.equal(uuids('again'), made);

  const wrong = place.replace(TEST_ACCOUNT.key, 'd3Jvbmc=');
  const { code, stderr: refused } = await daemon.tryBuild(context, ['--export-cache', wrong]);
  assert.equal(code, 1);
  assert.match(
    refused,
    /failed to configure azblob cache exporter: failed to create container client: failed to get properties of cache container box: .*403 AuthenticationFailed/,
  );
  assert.doesNotMatch(refused, /\] RUN/, 'nothing is built');
  await daemon.build(context, ['--export-cache', `${wrong},ignore-error=true`]);
  const unread = await onEmpty(['--import-cache', wrong]);
  assert.match(unread.stderr, /ERROR: failed to configure azblob cache importer: .*403 AuthenticationFailed/);
  assert.equal(unread.ran, 4);
  for (const text of [stderr, again.stderr, refused, unread.stderr])
    assert.ok(!text.includes(TEST_ACCOUNT.key));
});

test('a cache that cannot be had is told and does not fail the build; one that cannot be written does', async () => {
  const nowhere = await onEmpty(['--import-cache', cacheRef('nowhere')]);
  assert.match(nowhere.stderr, /--import-cache <ref> is deprecated/);
  assert.match(
    nowhere.stderr,
    /ERROR: failed to configure registry cache importer: .*cache\/nowhere:latest: not found/,
  );
  assert.equal(nowhere.ran, 4);
  const unknown = await onEmpty(['--import-cache', 'type=what']);
  assert.match(unknown.stderr, /unknown cache importer: what/);

  const refused = async (attrs: string): Promise<string> => {
    const { code, stderr } = await daemon.tryBuild(context, ['--export-cache', attrs]);
    assert.equal(code, 1, stderr);
    return stderr;
  };
  assert.match(await refused('type=what'), /unknown cache exporter: "what"/);
  assert.match(await refused('type=registry'), /registry cache exporter requires ref/);
  assert.match(
    await refused(`type=registry,ref=${cacheRef('x')},oci-mediatypes=false,image-manifest=true`),
    /failed to configure registry cache exporter: .*OCI mediatypes are required/,
  );
  const closed = 'type=registry,ref=127.0.0.1:1/x';
  assert.match(await refused(closed), /error writing layer blob: .*127\.0\.0\.1:1/);
  await daemon.build(context, ['--export-cache', `${closed},ignore-error=true`]);
});
