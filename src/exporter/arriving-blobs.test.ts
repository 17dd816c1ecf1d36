import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '../base/digest.ts';
import type { BlobProvider, ImmutableRef, RefContext } from '../cache/ref.ts';
import { annotationUncompressed } from '../oci/descriptor.ts';
import { bench, target } from '../testing/exporter.ts';
import { ArrivingBlobs } from './arriving-blobs.ts';
import { createExporter } from './create.ts';
import { fileArchive } from '../archive/pack.ts';

const signal = AbortSignal.timeout(60_000);
const digests = Array.from({ length: 9 }, (_, i) => digestOf(`blob ${i}`)).sort();
const lazy = (bring: (digest: Digest, context: RefContext) => Promise<void>) => ({
  lazyBlobs: () =>
    new Map(digests.toReversed().map((digest) => [digest, (context = {}) => bring(digest, context)])),
});

test('blobs come by name, four at a time', async () => {
  const begun: Digest[] = [];
  let now = 0;
  let most = 0;
  const blobs = new ArrivingBlobs([
    lazy(async (digest) => {
      begun.push(digest);
      most = Math.max(most, ++now);
      await sleep(5);
      now--;
    }),
  ]);
  const all = blobs.bring(signal);
  await blobs.begun();
  assert.ok(begun.length < digests.length);
  await blobs.there(digests.at(-1)!);
  await all;
  assert.deepEqual(begun, digests);
  assert.equal(most, 4);
  await blobs.there(digestOf('one that was there before'));
  const none = new ArrivingBlobs([]);
  await none.begun();
  await none.bring(signal);
});

test('what keeps one from coming is told to all who wait, and ends the others', async () => {
  let aborted = 0;
  const blobs = new ArrivingBlobs([
    lazy(async (digest, context) => {
      if (digest === digests[1]) throw new Error('gone');
      await sleep(10_000, undefined, context.signal ? { signal: context.signal } : {}).catch((error) => {
        aborted++;
        throw error;
      });
    }),
  ]);
  const waiting = [blobs.begun(), blobs.there(digests[0]!), blobs.there(digests.at(-1)!)];
  const outcomes = await Promise.allSettled([blobs.bring(signal), ...waiting]);
  for (const outcome of outcomes) {
    assert.equal(outcome.status, 'rejected');
    assert.match(String(outcome.reason), /gone/);
  }
  assert.ok(aborted >= 3);
});

test('an archive is sent while its last layers still come', async () => {
  await using b = await bench();
  const layers = ['one', 'two', 'three'].map((name) => {
    const archive = Buffer.concat([...fileArchive([{ name, data: Buffer.from(name) }])]);
    const data = gzipSync(archive);
    const annotations = { [annotationUncompressed]: digestOf(archive) };
    const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
    return { data, descriptor: { mediaType, digest: digestOf(data), size: data.length, annotations } };
  });
  const last = layers
    .map(({ descriptor }) => descriptor.digest)
    .sort()
    .at(-1);
  const sent = Promise.withResolvers<void>();
  const refs: ImmutableRef[] = [];
  for (const { data, descriptor } of layers) {
    const provider: BlobProvider = {
      open: async function* () {
        if (descriptor.digest === last) await sent.promise;
        yield data;
      },
    };
    refs.push(await b.refs.getByBlob(descriptor, refs.at(-1), { provider }));
  }
  const caught = target();
  const to = {
    ...caught,
    openFile: async (options: Parameters<typeof caught.openFile>[0]) => {
      const sink = await caught.openFile(options);
      return {
        write: async (chunk: Uint8Array) => {
          await sink.write(chunk);
          // The first of the layers has gone out.
          if (layers.some(({ data }) => data.equals(chunk))) sent.resolve();
        },
        close: () => sink.close(),
        [Symbol.asyncDispose]: () => sink[Symbol.asyncDispose](),
      };
    },
  };
  const exporter = createExporter('oci', {}, b.services(), to);
  const result = await exporter.export({ ref: refs.at(-1)!, metadata: new Map() }, b.context);
  result.release();
  const [archive] = caught.files;
  for (const { data } of layers) assert.ok(archive?.includes(data));
  for (const ref of refs) await ref.release();
});

test('a file of the client is not opened for layers that do not come', async () => {
  await using b = await bench();
  const archive = Buffer.concat([...fileArchive([{ name: 'a', data: Buffer.from('a') }])]);
  const data = gzipSync(archive);
  const annotations = { [annotationUncompressed]: digestOf(archive) };
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const descriptor = { mediaType, digest: digestOf(data), size: data.length, annotations };
  const provider: BlobProvider = {
    // biome-ignore lint/correctness/useYield: it fails before
    open: async function* () {
      throw new Error('the registry is away');
    },
  };
  await using ref = await b.refs.getByBlob(descriptor, undefined, { provider });
  let opened = 0;
  const openFile = (): never => {
    opened++;
    throw new Error('not to be opened');
  };
  const exporter = createExporter('oci', {}, b.services(), target({ openFile }));
  await assert.rejects(exporter.export({ ref, metadata: new Map() }, b.context), /registry is away/);
  assert.equal(opened, 0);
});
