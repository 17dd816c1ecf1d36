// Layers in estargz: which blobs are, and what becomes of them in other forms.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readLayer } from '../archive/compression.ts';
import { digestOf } from '../base/digest.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { countedLayerJobs, openTestCache, packLayer, tarOf } from '../testing/cache.ts';
import { temporaryStore } from '../testing/store.ts';
import type { BlobProvider, CompressionType, ImmutableRef } from './ref.ts';

const TOC = 'containerd.io/snapshot/stargz/toc.digest';
const SIZE = 'io.containers.estargz.uncompressed-size';
const UNCOMPRESSED = 'containerd.io/uncompressed';

async function cache() {
  const fixture = await temporaryStore();
  const jobs = countedLayerJobs(fixture.store);
  const refs = openTestCache(fixture.store, jobs);
  const lease = fixture.leases.hold().id;
  const as = async (ref: ImmutableRef, type: CompressionType, force = true): Promise<Descriptor> => {
    const [layer] = await ref.ensureBlobs({ compression: { type, force }, lease });
    return layer!;
  };
  const tar = async ({ digest }: Descriptor): Promise<string> => {
    const pieces: Buffer[] = [];
    for await (const piece of readLayer(fixture.content.path(digest))) pieces.push(piece);
    return digestOf(Buffer.concat(pieces));
  };
  return { ...fixture, jobs, refs, as, tar, [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose]() };
}

/** A pulled layer with one file. */
function pulled(root: string) {
  const dir = join(root, 'layer');
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'file'), 'content');
  const tar = tarOf(dir);
  return layerOf(packLayer(tar, { type: 'gzip' }), { [UNCOMPRESSED]: digestOf(tar) });
}

function layerOf(data: Uint8Array, annotations: Record<string, string>) {
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const descriptor: Descriptor = { mediaType, digest: digestOf(data), size: data.length, annotations };
  const seen = { opens: 0 };
  const provider: BlobProvider = {
    async *open(_descriptor, offset) {
      seen.opens++;
      yield data.subarray(offset);
    },
  };
  return { data, descriptor, provider, seen };
}

test('a layer that becomes estargz unpacks to more, and comes back as it was', async () => {
  await using fixture = await cache();
  const { refs, as, tar, jobs, root, content } = fixture;
  const { descriptor, provider } = pulled(root);
  await using ref = await refs.getByBlob(descriptor, undefined, { provider });
  const estargz = await as(ref, 'estargz');
  assert.equal(estargz.mediaType, descriptor.mediaType);
  assert.match(estargz.annotations?.[TOC] ?? '', /^sha256:[0-9a-f]{64}$/);
  assert.ok(Number(estargz.annotations?.[SIZE]) > 1024);
  assert.notEqual(estargz.annotations?.[UNCOMPRESSED], descriptor.annotations?.[UNCOMPRESSED]);
  assert.equal(await tar(estargz), descriptor.annotations?.[UNCOMPRESSED]);
  assert.equal(content.info(estargz.digest)?.labels['buildkit.io/compression/estargz'], 'true');
  // Again, not forced, and in other forms: each is what it was.
  assert.deepEqual(await as(ref, 'estargz'), estargz);
  assert.equal((await as(ref, 'estargz', false)).digest, descriptor.digest);
  const gzip = await as(ref, 'gzip');
  assert.equal(gzip.digest, descriptor.digest);
  assert.equal(gzip.annotations?.[TOC], undefined);
  assert.equal(jobs.calls.convert, 1);
  const zstd = await as(ref, 'zstd');
  assert.equal(zstd.annotations?.[UNCOMPRESSED], descriptor.annotations?.[UNCOMPRESSED]);
});

test('a pulled estargz layer is known by its bytes, converted to gzip only, and unpacked whole', async () => {
  await using fixture = await cache();
  const { refs, as, tar, jobs, root, content } = fixture;
  const source = pulled(root);
  await using first = await refs.getByBlob(source.descriptor, undefined, { provider: source.provider });
  const { digest, annotations } = await as(first, 'estargz');
  const data = await content.readAll(digest);

  await using other = await cache();
  // Its manifest says nothing of estargz.
  const silent = layerOf(data, { [UNCOMPRESSED]: annotations![UNCOMPRESSED]! });
  await using ref = await other.refs.getByBlob(silent.descriptor, undefined, { provider: silent.provider });
  await ref.ensureLocalBlobs();
  assert.equal((await other.as(ref, 'estargz')).digest, digest);
  assert.equal(other.jobs.calls.convert, 0);
  await ref.extract();
  const gzip = await other.as(ref, 'gzip');
  assert.notEqual(gzip.digest, digest);
  assert.equal(gzip.annotations?.[UNCOMPRESSED], await tar({ ...gzip, digest }));
  assert.equal(gzip.annotations?.[UNCOMPRESSED], source.descriptor.annotations?.[UNCOMPRESSED]);
  assert.equal(other.jobs.calls.convert, 1);
  assert.equal(jobs.calls.convert, 1);
});

test('a lazy estargz layer stays lazy, with its annotations', async () => {
  await using fixture = await cache();
  const { refs, as, jobs, root } = fixture;
  const gzip = pulled(root);
  await using made = await refs.getByBlob(gzip.descriptor, undefined, { provider: gzip.provider });
  const { digest, annotations } = await as(made, 'estargz');
  const data = await fixture.content.readAll(digest);

  await using other = await cache();
  const lazy = layerOf(data, { ...annotations, 'else/where': 'not kept' });
  await using ref = await other.refs.getByBlob(lazy.descriptor, undefined, { provider: lazy.provider });
  for (const force of [true, false]) {
    const layer = await other.as(ref, 'estargz', force);
    assert.equal(layer.digest, digest);
    for (const key of [TOC, SIZE, UNCOMPRESSED]) assert.equal(layer.annotations?.[key], annotations?.[key]);
    assert.equal(layer.annotations?.['else/where'], undefined);
  }
  assert.equal(lazy.seen.opens, 0);
  assert.equal(other.jobs.calls.convert, 0);
  assert.equal(jobs.calls.convert, 1);
  // As gzip it is brought, and a form of the other from then on.
  const plain = await other.as(ref, 'gzip');
  await using back = await other.refs.getByBlob(plain, undefined);
  const again = await other.as(back, 'estargz');
  assert.deepEqual([again.digest, again.annotations?.[TOC]], [digest, annotations?.[TOC]]);
  assert.equal(other.jobs.calls.convert, 1);
});

test('new layers are made as estargz, and named by all that they unpack to', async () => {
  await using fixture = await cache();
  const { refs, as, tar } = fixture;
  const mutable = await refs.newMutable(undefined, { description: 'step' });
  await using ref = await mutable.commit();
  const estargz = await as(ref, 'estargz', false);
  assert.match(estargz.annotations?.[TOC] ?? '', /^sha256:/);
  const [info] = ref.layerChain();
  assert.equal(info?.diffId, estargz.annotations?.[UNCOMPRESSED]);
  assert.equal(info?.chainId, info?.diffId);
  const gzip = await as(ref, 'gzip');
  assert.equal(gzip.annotations?.[UNCOMPRESSED], await tar(estargz));
  assert.equal((await as(ref, 'gzip', false)).digest, estargz.digest);
});
