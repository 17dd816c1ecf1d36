import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { Code, notFound } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { encodeManifest } from '../oci/manifest.ts';
import { rootKey } from '../solver/keystore.ts';
import type { LoadContext } from '../solver/sources.ts';
import { Chains } from './chains.ts';
import { encodeConfig } from './config.ts';
import { writeCache } from './export.ts';
import { formatChains } from './format.ts';
import { type CacheOrigin, readCache } from './import.ts';
import { inlineCache } from './inline.ts';
import type { CacheForm } from './manifest.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const SOURCE = rootKey(digestOf('source'), 0);
const link = { input: 0, output: 0, digest: digestOf('run'), selector: '' };
const statuses: string[] = [];
const context: LoadContext = {
  signal: new AbortController().signal,
  progress: { log: () => {}, status: (id) => void statuses.push(id), warn: () => {} },
  sessions: () => [],
};

/** Blobs by digest: a place to write to and to read from. */
class Place {
  readonly blobs = new Map<Digest, Uint8Array>();
  root: Descriptor | undefined;

  put(data: Uint8Array, mediaType: string): Descriptor {
    const digest = digestOf(data);
    this.blobs.set(digest, data);
    this.root = { mediaType, digest, size: data.length };
    return this.root;
  }

  get origin(): CacheOrigin {
    return {
      eager: false,
      resolve: async () => this.root!,
      fetchAll: async ({ digest }) => {
        const data = this.blobs.get(digest);
        if (!data) throw notFound(digest);
        return data;
      },
      provider: () => ({ open: () => assert.fail() }),
    };
  }

  async read() {
    const layers: Descriptor[] = [];
    const refs = {
      getByBlob: async (layer: Descriptor) => {
        layers.push(layer);
        return { release: async () => {} } as ImmutableRef;
      },
    };
    const sources = await readCache(this.origin, this.root!, 'id', { refs }, context);
    return { sources, layers };
  }
}

function layerOf(data: Uint8Array): Descriptor {
  const annotations = {
    [annotationUncompressed]: digestOf('unpacked'),
    'containerd.io/distribution.source.example.com': 'secret/place',
    'buildkit/description': 'RUN secret',
  };
  return { mediaType: LAYER, digest: digestOf(data), size: data.length, annotations };
}

const DATA = Buffer.from('layer');

function sample(): Chains {
  const chains = new Chains();
  const result = { stack: chains.stack(layerOf(DATA), undefined, undefined), createdAt: 5 };
  chains.add(rootKey(link.digest, 0), [[{ item: chains.add(SOURCE, []), selector: '' }]], [result]);
  return chains;
}

async function write(place: Place, form: CacheForm): Promise<Record<string, string>> {
  const content = { has: () => true, read: async function* () {} };
  const read = async function* () {
    yield DATA;
  };
  const sink = {
    put: async ({ mediaType, digest }: Descriptor, open: (offset: number) => AsyncIterable<Uint8Array>) => {
      const chunks = [];
      for await (const chunk of open(0)) chunks.push(chunk);
      assert.equal(place.put(Buffer.concat(chunks), mediaType).digest, digest);
    },
  };
  return await writeCache(sample(), sink, form, { ...content, read }, context);
}

test('every form is read as it was written', async () => {
  for (const form of [
    { imageManifest: true, oci: true },
    { imageManifest: false, oci: true },
    { imageManifest: false, oci: false },
  ]) {
    const place = new Place();
    const response = await write(place, form);
    assert.deepEqual(JSON.parse(response['cache.manifest']!), place.root);
    const manifest = Buffer.from(place.blobs.get(place.root!.digest)!).toString();
    assert.doesNotMatch(manifest, /secret/);
    assert.equal(manifest.includes('docker'), !form.oci);
    const { sources, layers } = await place.read();
    const [cache] = sources;
    const [key] = cache!.keys.query(SOURCE, link);
    await cache!.results.load(cache!.keys.records(key!)[0]!.resultId, context);
    assert.deepEqual(
      layers.map(({ digest, annotations }) => [digest, annotations?.[annotationUncompressed]]),
      [[digestOf(DATA), digestOf('unpacked')]],
    );
  }
  assert.ok(
    statuses.some((id) => id.startsWith('inferred cache manifest type: application/vnd.oci.image.index')),
  );
});

test('a cache without layers is not written', async () => {
  const sink = { put: () => assert.fail() };
  const content = { has: () => true, read: () => assert.fail() };
  const form = { imageManifest: true, oci: true };
  assert.deepEqual(await writeCache(new Chains(), sink, form, content, context), {});
  assert.equal(statuses.at(-1), 'skipping cache export for empty result');
});

function putImage(place: Place, config: Record<string, unknown>): Descriptor {
  const json = place.put(Buffer.from(JSON.stringify(config)), 'application/vnd.oci.image.config.v1+json');
  const { annotations: _, ...layer } = layerOf(DATA);
  const manifest = { kind: 'manifest', mediaType: '', config: json, layers: [layer] } as const;
  return place.put(encodeManifest(manifest), 'application/vnd.oci.image.manifest.v1+json');
}

test('caches inside images are found below an index; images without are passed over', async () => {
  const cache = Buffer.from(inlineCache(sample(), [digestOf(DATA)])!).toString('base64');
  const rootfs = { type: 'layers', diff_ids: [digestOf('unpacked')] };
  const history = [
    { created: '2026-01-01T00:00:00Z', created_by: 'ENV', empty_layer: true },
    { created: '2026-01-02T00:00:00Z', created_by: 'RUN' },
  ];
  const place = new Place();
  const manifests = [
    putImage(place, { rootfs, history, 'moby.buildkit.cache.v0': cache }),
    putImage(place, { rootfs }),
    putImage(place, { rootfs: { ...rootfs, diff_ids: [] }, 'moby.buildkit.cache.v0': cache }),
  ];
  place.put(encodeManifest({ kind: 'index', mediaType: '', manifests }), '');
  const { sources, layers } = await place.read();
  assert.equal(sources.length, 1);
  const [key] = sources[0]!.keys.query(SOURCE, link);
  await sources[0]!.results.load(sources[0]!.keys.records(key!)[0]!.resultId, context);
  assert.deepEqual(layers[0]?.annotations, {
    [annotationUncompressed]: digestOf('unpacked'),
    'buildkit/createdat': '2026-01-02T00:00:00Z',
    'buildkit/description': 'RUN',
  });
  const broken = new Place();
  putImage(broken, { rootfs, 'moby.buildkit.cache.v0': Buffer.from('[{"inputs":5}]').toString('base64') });
  await assert.rejects(broken.read(), { message: 'invalid cache config: inputs is no list' });
});

test('what is too large is not fetched', async () => {
  const place = new Place();
  place.root = { mediaType: '', digest: digestOf(''), size: 1_048_577 };
  const message = `blob ${digestOf('')} is too large (1048577 > 1048576)`;
  await assert.rejects(place.read(), { message, code: Code.resourceExhausted });
  const config = encodeConfig(formatChains(sample()).config);
  const blob = {
    mediaType: 'application/vnd.buildkit.cacheconfig.v0',
    digest: digestOf(config),
    size: 2 ** 21,
  };
  place.put(encodeManifest({ kind: 'manifest', mediaType: '', config: blob, layers: [] }), '');
  await assert.rejects(place.read(), /is too large \(2097152 > 1048576\)/);
});
