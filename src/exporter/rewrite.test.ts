import assert from 'node:assert/strict';
import { existsSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { readTarEntries } from '../archive/tar-reader.ts';
import type { Digest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { parseTime } from '../oci/time.ts';
import { type Bench, bench, result, target } from '../testing/exporter.ts';
import { createExporter } from './create.ts';
import { type RewriteServices, rewriteTimes } from './rewrite.ts';

const EPOCH = 1_700_000_000;
const CONFIG = JSON.stringify({ architecture: 'amd64', os: 'linux', config: {} });

/** A layer with a file of each of these times. */
function layerOf(
  b: Bench,
  parent: ImmutableRef | undefined,
  times: Record<string, number>,
): Promise<ImmutableRef> {
  return b.layer(parent, (dir) => {
    for (const [name, time] of Object.entries(times)) {
      writeFileSync(join(dir, name), name);
      utimesSync(join(dir, name), time, time);
    }
    utimesSync(dir, EPOCH - 1, EPOCH - 1);
  });
}

async function blobs(b: Bench, ref: ImmutableRef): Promise<readonly Descriptor[]> {
  using lease = b.store.leases.hold();
  return await ref.ensureBlobs({ compression: { type: 'gzip', force: false }, lease: lease.id });
}

interface Exported {
  readonly digest: Digest;
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly Digest[];
  readonly times: Readonly<Record<string, number>>;
}

async function exported(
  b: Bench,
  ref: ImmutableRef,
  attrs: Record<string, string>,
  metadata: Record<string, string> = {},
): Promise<Exported> {
  const source = result(ref, { 'containerimage.config': CONFIG, ...metadata });
  const given = { 'rewrite-timestamp': 'true', ...attrs };
  const done = await createExporter('image', given, b.services(), target()).export(source, b.context);
  const read = async (digest: Digest) => Buffer.from(await b.store.content.readAll(digest));
  try {
    const digest = done.descriptor!.digest;
    const { layers, config } = JSON.parse((await read(digest)).toString());
    const { rootfs } = JSON.parse((await read(config.digest)).toString());
    const top = layers.at(-1);
    const data = await read(top.digest);
    const entries = readTarEntries(top.mediaType.endsWith('gzip') ? gunzipSync(data) : data, 1 << 20);
    const times = Object.fromEntries(entries.map(({ header }) => [header.name, header.mtime.sec]));
    return { digest, layers, diffIds: rootfs.diff_ids, times };
  } finally {
    done.release();
  }
}

test('files above the base image are not newer than the epoch, and images of other times are the same', async () => {
  await using b = await bench();
  const base = await layerOf(b, undefined, { base: EPOCH + 50 });
  const images: Exported[] = [];
  for (const delay of [10, 999]) {
    const top = await layerOf(b, base, { new: EPOCH + delay, old: EPOCH - 7 });
    const [baseLayer, topLayer] = await blobs(b, top);
    const diffId = baseLayer!.annotations!['containerd.io/uncompressed'];
    const baseConfig = JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [diffId] },
    });
    const attrs = { 'source-date-epoch': String(EPOCH) };
    const image = await exported(b, top, attrs, { 'containerimage.base.config': baseConfig });
    assert.equal(image.layers[0]!.digest, baseLayer!.digest);
    assert.equal(image.layers[0]!.annotations, undefined);
    assert.notEqual(image.layers[1]!.digest, topLayer!.digest);
    assert.deepEqual(image.layers[1]!.annotations, { 'buildkit/rewritten-timestamp': String(EPOCH) });
    assert.equal(image.diffIds[0], diffId);
    assert.notEqual(image.diffIds[1], topLayer!.annotations!['containerd.io/uncompressed']);
    assert.deepEqual(image.times, { new: EPOCH, old: EPOCH - 7 });
    assert.deepEqual(await blobs(b, top), [baseLayer, topLayer], 'the tree keeps its own layers');
    images.push(image);
  }
  assert.equal(images[0]!.digest, images[1]!.digest);
  assert.ok(
    b.statuses.includes(`rewriting layers with source-date-epoch ${EPOCH} (2023-11-14 22:13:20 +0000 UTC)`),
  );
});

test('without a base image all layers are rewritten, in the wanted compression', async () => {
  await using b = await bench();
  const top = await layerOf(b, await layerOf(b, undefined, { a: EPOCH + 1 }), { b: EPOCH + 1 });
  const attrs = { 'source-date-epoch': String(EPOCH), compression: 'uncompressed' };
  const image = await exported(b, top, attrs);
  for (const { annotations } of image.layers)
    assert.deepEqual(annotations, { 'buildkit/rewritten-timestamp': String(EPOCH) });
  assert.equal(image.layers[0]!.mediaType, 'application/vnd.oci.image.layer.v1.tar');
  assert.equal(image.layers[1]!.digest, image.diffIds[1]);
});

test('base layers that were converted to estargz, where they unpack to more, stay as they are', async () => {
  await using b = await bench();
  const base = await layerOf(b, undefined, { base: EPOCH + 50 });
  const top = await layerOf(b, base, { new: EPOCH + 1 });
  const [baseLayer] = await blobs(b, top);
  const diffId = baseLayer!.annotations!['containerd.io/uncompressed'];
  const baseConfig = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [diffId] },
  });
  const form = { compression: 'estargz', 'force-compression': 'true' };
  const attrs = { 'source-date-epoch': String(EPOCH), ...form };
  const image = await exported(b, top, attrs, { 'containerimage.base.config': baseConfig });
  const keys = image.layers.map(({ annotations }) => Object.keys(annotations ?? {}).sort());
  const own = ['containerd.io/snapshot/stargz/toc.digest', 'io.containers.estargz.uncompressed-size'];
  assert.deepEqual(keys, [own, ['buildkit/rewritten-timestamp', ...own]]);
  assert.notEqual(image.diffIds[0], diffId);
  assert.deepEqual(image.times, { new: EPOCH });
});

test('without an epoch the layers stay, and the build is told', async () => {
  await using b = await bench();
  const ref = await layerOf(b, undefined, { a: EPOCH + 1 });
  const [layer] = await blobs(b, ref);
  const image = await exported(b, ref, {});
  assert.equal(image.layers[0]!.digest, layer!.digest);
  assert.ok(b.statuses.includes('rewrite-timestamp is specified, but no source-date-epoch was found\n'));
});

test('a failure names the layer and leaves no file', async () => {
  await using b = await bench();
  const ref = await layerOf(b, undefined, { a: EPOCH + 1 });
  const [layer] = await blobs(b, ref);
  let output = '';
  const services: RewriteServices = {
    content: b.store.content,
    jobs: {
      run: async (_name, { blob }) => {
        output = blob;
        writeFileSync(blob, 'half');
        throw new BuildError('no space');
      },
    },
  };
  using lease = b.store.leases.hold();
  const epoch = parseTime('2023-11-14T22:13:20Z');
  const options = {
    epoch,
    baseConfig: undefined,
    compression: { type: 'gzip', force: false },
    lease: lease.id,
  } as const;
  await assert.rejects(rewriteTimes(ref, [layer!], options, services, b.context), {
    message: `failed to rewrite the times of layer ${layer!.digest}: no space`,
  });
  assert.ok(output !== '' && !existsSync(output));
});
