import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '../base/digest.ts';
import { annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { countedLayerJobs, openTestCache, tarOf } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { temporaryStore } from '../testing/store.ts';
import type { BlobProvider } from './ref.ts';

interface Layer {
  readonly descriptor: Descriptor;
  readonly data: Uint8Array;
}

/** A layer of what the shell lines leave in an empty directory. */
function layer(root: string, name: string, script: string): Layer {
  const dir = join(root, `content-${name}`);
  mkdirSync(dir);
  execFileSync('bash', ['-ec', script], { cwd: dir });
  const archive = tarOf(dir);
  const data = gzipSync(archive);
  const annotations = { [annotationUncompressed]: digestOf(archive) };
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  return {
    descriptor: { mediaType, digest: digestOf(data) as Digest, size: data.length, annotations },
    data,
  };
}

function provider({ data }: Layer, ready: Promise<void> = Promise.resolve()): { provider: BlobProvider } {
  return {
    provider: {
      open: async function* (_descriptor, offset) {
        await ready;
        yield data.subarray(offset);
      },
    },
  };
}

async function until(condition: () => boolean): Promise<void> {
  for (let waits = 0; waits < 200 && !condition(); waits++) await sleep(10);
}

for (const snapshotter of ['overlayfs', 'native'])
  test(`${snapshotter}: a layer need not wait for those below it to be unpacked`, async () => {
    await using fixture = await temporaryStore(snapshotter);
    const { store, root } = fixture;
    const jobs = countedLayerJobs(store);
    const refs = openTestCache(store, jobs);
    const low = layer(root, 'low', 'mkdir -m 711 d; chown 7:8 d; touch d/gone d/kept');
    const top = layer(root, 'top', 'mkdir d e; touch d/new d/.wh.gone d/.wh.never e/.wh.nothing');
    const arrives = Promise.withResolvers<void>();
    await using first = await refs.getByBlob(low.descriptor, undefined, provider(low, arrives.promise));
    await using second = await refs.getByBlob(top.descriptor, first, provider(top));
    const extracting = second.extract();
    const ahead = snapshotter === 'overlayfs' ? 1 : 0;
    if (ahead === 1) await until(() => jobs.calls.apply > 0);
    else await sleep(200);
    assert.equal(jobs.calls.apply, ahead);
    arrives.resolve();
    await extracting;
    assert.equal(jobs.calls.apply, 2);
    assert.equal(jobs.calls.settle, ahead);
    await using mounts = await second.mount(true);
    withMounted(mounts.mounts, (dir) => {
      assert.deepEqual(readdirSync(dir).sort(), ['d', 'e']);
      assert.deepEqual(readdirSync(join(dir, 'd')).sort(), ['kept', 'new']);
      assert.deepEqual(readdirSync(join(dir, 'e')), []);
    });
  });

test('what was unpacked ahead goes when the layers below do not come', async () => {
  await using fixture = await temporaryStore();
  const { store, root } = fixture;
  const jobs = countedLayerJobs(store);
  const refs = openTestCache(store, jobs);
  const low = layer(root, 'low', 'touch a');
  const top = layer(root, 'top', 'touch b');
  const fails = Promise.withResolvers<void>();
  const first = await refs.getByBlob(low.descriptor, undefined, provider(low, fails.promise));
  await using second = await refs.getByBlob(top.descriptor, first, provider(top));
  await first.release();
  const extracting = second.extract();
  extracting.catch(() => {});
  await until(() => jobs.calls.apply > 0);
  assert.equal(jobs.calls.apply, 1);
  fails.reject(new Error('no such blob'));
  await assert.rejects(extracting, /no such blob/);
  await store.gc();
  const count = store.db.get<{ n: number }>('SELECT count(*) AS n FROM snapshots');
  assert.equal(count?.n, 0);
});

test('what is ahead waits as long as it takes for the layers below', async () => {
  await using fixture = await temporaryStore();
  const { store, root } = fixture;
  const jobs = countedLayerJobs(store);
  const refs = openTestCache(store, jobs);
  const low = layer(root, 'low', 'touch a');
  const middle = layer(root, 'middle', 'touch b');
  const top = layer(root, 'top', 'touch c');
  const arrives = Promise.withResolvers<void>();
  await using first = await refs.getByBlob(low.descriptor, undefined, provider(low, arrives.promise));
  await using second = await refs.getByBlob(middle.descriptor, first, provider(middle));
  await using third = await refs.getByBlob(top.descriptor, second, provider(top));
  const extracting = third.extract();
  await until(() => jobs.calls.apply > 0);
  const hours = 24 * 60 * 60 * 1000;
  store.db.run('UPDATE leases SET expires_at = expires_at - ?', hours);
  await store.gc();
  arrives.resolve();
  await extracting;
  await using mounts = await third.mount(true);
  withMounted(mounts.mounts, (dir) => assert.deepEqual(readdirSync(dir).sort(), ['a', 'b', 'c']));
  const temporary = store.leases.list().filter((lease) => lease.temporary);
  assert.deepEqual(temporary, [], 'given back');
});

test('a layer with too much to settle is unpacked on its parent', async () => {
  await using fixture = await temporaryStore();
  const { store, root } = fixture;
  const jobs = countedLayerJobs(store);
  const refs = openTestCache(store, jobs);
  const low = layer(root, 'low', 'mkdir d; touch d/gone d/kept');
  const top = layer(
    root,
    'top',
    'mkdir d; cd d; touch .wh.gone; for ((i = 0; i < 2001; i++)); do : >.wh.$i; done',
  );
  const arrives = Promise.withResolvers<void>();
  await using first = await refs.getByBlob(low.descriptor, undefined, provider(low, arrives.promise));
  await using second = await refs.getByBlob(top.descriptor, first, provider(top));
  const extracting = second.extract();
  await until(() => jobs.calls.apply > 0);
  arrives.resolve();
  await extracting;
  assert.equal(jobs.calls.apply, 3);
  assert.equal(jobs.calls.settle, 0);
  await using mounts = await second.mount(true);
  withMounted(mounts.mounts, (dir) => assert.deepEqual(readdirSync(join(dir, 'd')), ['kept']));
});

test('a layer whose parent is there is unpacked on it', async () => {
  await using fixture = await temporaryStore();
  const { store, root } = fixture;
  const jobs = countedLayerJobs(store);
  const refs = openTestCache(store, jobs);
  const low = layer(root, 'low', 'mkdir d; touch d/gone');
  const top = layer(root, 'top', 'mkdir d; touch d/.wh.gone d/new');
  await using first = await refs.getByBlob(low.descriptor, undefined, provider(low));
  await using second = await refs.getByBlob(top.descriptor, first, provider(top));
  await first.extract();
  await second.ensureLocalBlobs();
  await second.extract();
  assert.deepEqual([jobs.calls.apply, jobs.calls.settle], [2, 0]);
  await using mounts = await second.mount(true);
  withMounted(mounts.mounts, (dir) => assert.deepEqual(readdirSync(join(dir, 'd')), ['new']));
});
