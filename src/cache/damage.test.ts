import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { Code, hasCode } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { countedLayerJobs, openTestCache, packLayer, tarOf } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { realFiles } from '../store/files.ts';
import { temporaryStore } from '../testing/store.ts';
import { MissingProvidersError } from './core.ts';
import { DamagedRecordError, isStoreDamage, rowProblem } from './damage.ts';
import type { LocalRefManager } from './manager.ts';
import type { BlobProvider, ImmutableRef } from './ref.ts';

type Store = Awaited<ReturnType<typeof temporaryStore>>;

function layerOf(root: string, name: string): { descriptor: Descriptor; data: Uint8Array } {
  const dir = join(root, `layer-${name}`);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, name), name);
  const tar = tarOf(dir);
  const data = packLayer(tar, { type: 'gzip' });
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const annotations = { 'containerd.io/uncompressed': digestOf(tar) };
  return { data, descriptor: { mediaType, digest: digestOf(data), size: data.length, annotations } };
}

function providerOf(data: Uint8Array): BlobProvider & { opens: number } {
  const provider = {
    opens: 0,
    async *open(_: Descriptor, offset: number) {
      provider.opens++;
      yield data.subarray(offset);
    },
  };
  return provider;
}

async function fileOn(refs: LocalRefManager, parent: ImmutableRef | undefined, name: string) {
  const mutable = await refs.newMutable(parent);
  const view = await mutable.mount(false);
  withMounted(view.mounts, (dir) => writeFileSync(join(dir, name), name));
  await view.release();
  return mutable.commit();
}

async function files(ref: ImmutableRef, names: readonly string[]): Promise<void> {
  await using view = await ref.mount(true);
  withMounted(view.mounts, (dir) => {
    for (const name of names) assert.equal(readFileSync(join(dir, name), 'utf8'), name);
  });
}

/** Directory of the snapshot that holds a record's own tree. */
function treeOf({ store }: Store, id: string): string {
  const row = store.db.get<{ id: number }>(
    'SELECT s.id FROM snapshots s JOIN records r ON r.snapshot = s.name WHERE r.id = ?',
    id,
  );
  assert.ok(row);
  return join(store.layout.snapshots, String(row.id));
}

function blobFile({ store }: Store, digest: Digest): string {
  return join(store.layout.content, digest.replace(':', '/'));
}

/** Other bytes of the same number. */
function spoil(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 0xff;
  writeFileSync(path, bytes);
}

const plain = { type: 'gzip', force: false } as const;

for (const snapshotter of ['overlayfs', 'native'])
  test(`${snapshotter}: the lost tree of a layer is unpacked again below what stands on it`, async () => {
    await using held = await temporaryStore(snapshotter);
    const jobs = countedLayerJobs(held.store);
    const refs = openTestCache(held.store, jobs);
    const { descriptor, data } = layerOf(held.root, 'base');
    await using base = await refs.getByBlob(descriptor, undefined, { provider: providerOf(data) });
    await base.extract();
    await using top = await fileOn(refs, base, 'top');
    rmSync(treeOf(held, base.id), { recursive: true });
    await files(base, ['base']);
    await files(top, ['base', 'top']);
    // A tree that is there, but is none.
    rmSync(join(treeOf(held, base.id), 'fs'), { recursive: true });
    writeFileSync(join(treeOf(held, base.id), 'fs'), 'no directory');
    await using next = await fileOn(refs, top, 'next');
    await files(next, ['base', 'top', 'next']);
    if (snapshotter === 'overlayfs') assert.equal(jobs.calls.apply, 3);
    await held.store.gc();
    await files(next, ['base', 'top', 'next']);
  });

test('a lost tree that nothing can bring back: the record is dropped, and what stands on it', async () => {
  await using held = await temporaryStore();
  const refs = openTestCache(held.store);
  const base = await fileOn(refs, undefined, 'base');
  const top = await fileOn(refs, base, 'top');
  rmSync(treeOf(held, base.id), { recursive: true });
  const failure = await top.mount(true).catch((error: unknown) => error);
  assert.ok(isStoreDamage(failure), String(failure));
  assert.ok(hasCode(failure, Code.dataLoss));
  await assert.rejects(refs.get(top.id), (error) => isStoreDamage(error));
  assert.equal(held.store.db.get('SELECT 1 FROM records WHERE id = ?', base.id), undefined);
  await top.release();
  await base.release();
  await assert.rejects(refs.get(top.id), (error) => hasCode(error, Code.notFound));
  assert.deepEqual(await refs.diskUsage(), []);
  await held.store.gc();
  assert.equal(held.store.db.get<{ n: number }>('SELECT count(*) AS n FROM snapshots')?.n, 0);
});

test('a lost tree is found when its record is loaded', async () => {
  await using held = await temporaryStore();
  const refs = openTestCache(held.store);
  const ref = await fileOn(refs, undefined, 'a');
  await ref.release();
  rmSync(join(treeOf(held, ref.id), 'fs'), { recursive: true });
  await assert.rejects(refs.get(ref.id), DamagedRecordError);
  assert.equal(refs.metadata(ref.id), undefined);
});

test('a snapshot whose parent has no row is dropped, and made again where there is a blob', async () => {
  await using held = await temporaryStore();
  const refs = openTestCache(held.store);
  const layers = ['a', 'b'].map((name) => layerOf(held.root, name));
  await using below = await refs.getByBlob(layers[0]!.descriptor, undefined, {
    provider: providerOf(layers[0]!.data),
  });
  await using top = await refs.getByBlob(layers[1]!.descriptor, below, {
    provider: providerOf(layers[1]!.data),
  });
  await top.extract();
  held.store.db.run('UPDATE snapshots SET parent = 999 WHERE parent IS NOT NULL');
  await files(top, ['a', 'b']);
});

test('a damaged blob is made again from the tree; those above it are named anew', async () => {
  await using held = await temporaryStore();
  const { content } = held;
  const refs = openTestCache(held.store);
  await using base = await fileOn(refs, undefined, 'base');
  await using top = await fileOn(refs, base, 'top');
  const options = { compression: plain, lease: held.lease };
  const first = await top.ensureBlobs(options);
  for (const damage of [
    (path: string) => spoil(path),
    (path: string) => rmSync(path),
    (path: string) => writeFileSync(path, 'short'),
  ]) {
    damage(blobFile(held, first[0]!.digest));
    const again = await top.ensureBlobs(options);
    assert.deepEqual(again, first);
    for (const { digest } of again) assert.equal(digestOf(readFileSync(content.path(digest))), digest);
    const rows = held.store.db.all<{ chain_id: string | null }>('SELECT chain_id FROM records');
    assert.ok(rows.every((row) => row.chain_id !== null));
  }
  // What was right is not read again.
  renameSync(blobFile(held, first[1]!.digest), join(held.root, 'kept'));
  assert.equal(await content.isSound(first[1]!.digest), false);
});

test('a damaged blob of a layer that is not unpacked is fetched again, or its record is a miss', async () => {
  await using held = await temporaryStore();
  const refs = openTestCache(held.store);
  const { descriptor, data } = layerOf(held.root, 'x');
  const provider = providerOf(data);
  const lazy = await refs.getByBlob(descriptor, undefined, { provider });
  await lazy.ensureLocalBlobs();
  spoil(blobFile(held, descriptor.digest));
  await files(lazy, ['x']);
  assert.equal(provider.opens, 2);
  const { id } = lazy;
  const tree = treeOf(held, id);
  await lazy.release();
  rmSync(tree, { recursive: true });
  spoil(blobFile(held, descriptor.digest));
  // Without the provider, which a restart forgets.
  await assert.rejects(refs.get(id), MissingProvidersError);
  await using found = await refs.get(id, { providers: new Map([[descriptor.digest, provider]]) });
  await files(found, ['x']);
});

test('a download does not wait for the disk; what a power cut then takes of it is brought again', async (t) => {
  const syncs = t.mock.method(realFiles, 'sync', () => new Promise(() => {})).mock;
  await using held = await temporaryStore();
  const { descriptor, data } = layerOf(held.root, 'x');
  const provider = providerOf(data);
  await using lazy = await openTestCache(held.store).getByBlob(descriptor, undefined, { provider });
  await lazy.ensureLocalBlobs();
  assert.equal(syncs.callCount(), 0);
  // The entry was written, the bytes were not.
  writeFileSync(blobFile(held, descriptor.digest), Buffer.alloc(data.length));
  await files(lazy, ['x']);
  writeFileSync(blobFile(held, descriptor.digest), '');
  assert.equal(await held.store.content.isSound(descriptor.digest), false);
  assert.equal(provider.opens, 2);
});

test('a damaged variant of a blob is converted again', async () => {
  await using held = await temporaryStore();
  const jobs = countedLayerJobs(held.store);
  const refs = openTestCache(held.store, jobs);
  await using ref = await fileOn(refs, undefined, 'a');
  await ref.ensureBlobs({ compression: plain, lease: held.lease });
  const forced = { compression: { type: 'zstd', force: true }, lease: held.lease } as const;
  const [first] = await ref.ensureBlobs(forced);
  spoil(blobFile(held, first!.digest));
  assert.deepEqual(await ref.ensureBlobs(forced), [first]);
  assert.equal(jobs.calls.convert, 2);
  assert.equal(digestOf(readFileSync(blobFile(held, first!.digest))), first!.digest);
});

test('good bytes take the place of a damaged blob', async () => {
  await using held = await temporaryStore();
  const { content, lease } = held;
  const data = Buffer.from('a manifest');
  const { digest } = await content.writeBlob(data, { lease });
  spoil(blobFile(held, digest));
  assert.equal((await content.writeBlob(data, { lease })).alreadyExists, false);
  assert.deepEqual(Buffer.from(await content.readAll(digest)), data);
  spoil(blobFile(held, digest));
  await assert.rejects(content.readAll(digest), (error) => hasCode(error, Code.notFound));
});

test('rows that make no sense are dropped with a reason', async () => {
  await using held = await temporaryStore();
  const { db } = held.store;
  const refs = openTestCache(held.store);
  const spoilings = [
    "kind = 'other'",
    "snapshot = ''",
    'parent = id',
    'equal_mutable = id',
    "annotations = 'x'",
    "urls = '{}'",
    "image_refs = 'null'",
    "blob = 'no digest'",
  ];
  for (const spoiling of spoilings) {
    const ref = await fileOn(refs, undefined, 'a');
    await ref.release();
    db.run(`UPDATE records SET ${spoiling} WHERE id = ?`, ref.id);
    await assert.rejects(refs.get(ref.id), (error) => hasCode(error, Code.notFound), spoiling);
    assert.equal(db.get('SELECT 1 FROM records WHERE id = ?', ref.id), undefined);
  }
  // Two that stand on each other.
  const pair = [await fileOn(refs, undefined, 'a'), await fileOn(refs, undefined, 'b')];
  for (const ref of pair) await ref.release();
  db.run('UPDATE records SET parent = ? WHERE id = ?', pair[0]!.id, pair[1]!.id);
  db.run('UPDATE records SET parent = ? WHERE id = ?', pair[1]!.id, pair[0]!.id);
  await assert.rejects(refs.get(pair[0]!.id), (error) => hasCode(error, Code.notFound));
  assert.equal(rowProblem.length, 1);
});

test('a retained tree that is lost is not given out again; a work directory that is lost is made again', async () => {
  await using held = await temporaryStore();
  const refs = openTestCache(held.store);
  await using base = await fileOn(refs, undefined, 'base');
  const cache = await refs.newMutable(base, { retain: true });
  const { id } = cache;
  const dir = treeOf(held, id);
  await cache.release();
  rmSync(join(dir, 'work'), { recursive: true });
  const again = await refs.getMutable(id);
  await using view = await again.mount(false);
  withMounted(view.mounts, (path) => assert.ok(existsSync(join(path, 'base'))));
  await again.release();
  rmSync(join(dir, 'fs'), { recursive: true });
  await assert.rejects(refs.getMutable(id), (error) => hasCode(error, Code.notFound));
});
