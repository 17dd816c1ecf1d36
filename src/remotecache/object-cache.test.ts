import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import type { BlobProvider, ImmutableRef } from '../cache/ref.ts';
import { annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { rootKey } from '../solver/keystore.ts';
import type { LoadContext } from '../solver/sources.ts';
import { Chains } from './chains.ts';
import { type ObjectOrigin, objectReader, type ObjectSink, objectWriter } from './object-cache.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const SOURCE = rootKey(digestOf('source'), 0);
const link = { input: 0, output: 0, digest: digestOf('run'), selector: '' };

function testContext() {
  const statuses: string[] = [];
  const context: LoadContext = {
    signal: new AbortController().signal,
    progress: { log: () => {}, status: (id) => void statuses.push(id), warn: () => {} },
    sessions: () => [],
  };
  return { context, statuses };
}

function layerOf(name: string, createdAt?: string): Descriptor {
  const annotations = {
    [annotationUncompressed]: digestOf(`${name} unpacked`),
    ...(createdAt === undefined ? {} : { 'buildkit/createdat': createdAt }),
    'buildkit/description': 'RUN secret',
  };
  return { mediaType: LAYER, digest: digestOf(name), size: name.length, annotations };
}

/** source → run, made of the layers bottom up. */
function chainsOf(layers: readonly Descriptor[]): Chains {
  const chains = new Chains();
  const stack = layers.reduce<ReturnType<Chains['stack']> | undefined>(
    (parent, layer) => chains.stack(layer, parent, undefined),
    undefined,
  )!;
  const result = { stack, createdAt: 5 };
  chains.add(rootKey(link.digest, 0), [[{ item: chains.add(SOURCE, []), selector: '' }]], [result]);
  return chains;
}

const content = {
  has: () => true,
  read: async function* (digest: Digest) {
    yield Buffer.from(digest);
  },
};

/** Objects by name. */
class Place {
  readonly objects = new Map<string, string>();
  running = 0;
  most = 0;
  readonly sink: ObjectSink = {
    parallel: 2,
    has: async ({ digest }) => this.objects.has(digest),
    put: async ({ digest }, open) => {
      this.most = Math.max(this.most, ++this.running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      for await (const chunk of open(0)) this.objects.set(digest, Buffer.from(chunk).toString());
      this.running--;
    },
    putConfig: async (json) => void this.objects.set('config', Buffer.from(json).toString()),
  };

  async read(names = ['config'], more: Partial<BlobProvider> = {}, found: Descriptor[] = []) {
    const refs = {
      getByBlob: async (layer: Descriptor) => {
        found.push(layer);
        return { release: async () => {} } as ImmutableRef;
      },
    };
    const origin: ObjectOrigin = {
      configs: async () =>
        names.map((name) => this.objects.get(name)).map((json) => json && Buffer.from(json)) as never,
      provider: () => ({ open: () => assert.fail(), ...more }),
    };
    const { context } = testContext();
    const sources = await objectReader(origin)('id', { refs }, context);
    for (const { keys, results } of sources)
      for (const key of keys.query(SOURCE, link))
        for (const { resultId } of keys.records(key)) await results.load(resultId, context);
    return { sources, found };
  }
}

test('a cache is read as it was written: layers, then a config that says what they are', async () => {
  const place = new Place();
  const layers = [layerOf('a', '2026-01-02T04:04:05.123456789+01:00'), layerOf('b')];
  const { context, statuses } = testContext();
  assert.deepEqual(await objectWriter(place.sink)(chainsOf(layers), content, context), {});
  const [a, b] = [digestOf('a'), digestOf('b')];
  assert.equal(place.objects.get(a), a);
  const config = place.objects.get('config')!;
  const said = new Map(
    JSON.parse(config).layers.map(({ blob, annotations }: Record<string, unknown>) => [blob, annotations]),
  );
  // Order and names of the fields as BuildKit has them.
  assert.equal(
    JSON.stringify(said.get(a)),
    `{"mediaType":"${LAYER}","diffID":"${digestOf('a unpacked')}","size":1,"createdAt":"2026-01-02T03:04:05.123456789Z"}`,
  );
  assert.equal((said.get(b) as { createdAt: string }).createdAt, '0001-01-01T00:00:00Z');
  assert.doesNotMatch(config, /secret/);
  assert.deepEqual(statuses.filter((id) => id === `writing layer ${a}`).length, 2);

  const { found, sources } = await place.read(['gone', 'config']);
  assert.equal(sources.length, 1);
  assert.deepEqual(found, [
    {
      mediaType: LAYER,
      digest: a,
      size: 1,
      annotations: {
        [annotationUncompressed]: digestOf('a unpacked'),
        'buildkit/createdat': '2026-01-02T03:04:05.123456789Z',
      },
    },
    {
      mediaType: LAYER,
      digest: b,
      size: 1,
      annotations: { [annotationUncompressed]: digestOf('b unpacked') },
    },
  ]);
});

test('what is there is not sent again, and only so many layers at once', async () => {
  const place = new Place();
  place.objects.set(digestOf('a'), 'old');
  const layers = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => layerOf(name));
  const { context, statuses } = testContext();
  await objectWriter(place.sink)(chainsOf(layers), content, context);
  assert.equal(place.objects.get(digestOf('a')), 'old');
  assert.ok(!statuses.includes(`writing layer ${digestOf('a')}`));
  assert.equal(place.most, 2);
});

test('a result with a layer that the place has dropped is not one, and touches no record', async () => {
  const place = new Place();
  const layers = [layerOf('a'), layerOf('b')];
  await objectWriter(place.sink)(chainsOf(layers), content, testContext().context);
  const asked: string[] = [];
  const found: Descriptor[] = [];
  const has = async ({ digest }: Descriptor): Promise<boolean> => {
    asked.push(digest);
    return digest !== digestOf('b');
  };
  await assert.rejects(place.read(['config'], { has }, found), {
    message: `blob ${digestOf('b')}: not found`,
  });
  assert.deepEqual(asked.sort(), layers.map(({ digest }) => digest).sort());
  assert.equal(found.length, 0);
  await place.read(['config'], { has: async () => true }, found);
  assert.equal(found.length, 2);
});

test('a layer that cannot be sent keeps the config from being written', async () => {
  const place = new Place();
  const sink = {
    ...place.sink,
    put: async () => {
      throw new Error('disk full');
    },
  };
  const writing = objectWriter(sink)(chainsOf([layerOf('a')]), content, testContext().context);
  await assert.rejects(writing, { message: 'error writing layer blob: disk full' });
  assert.equal(place.objects.size, 0);
});

test('configs that say too little of their layers are refused', async () => {
  const place = new Place();
  const blob = digestOf('a');
  for (const [layer, message] of [
    [{ blob }, 'cache layer with missing annotations'],
    [{ blob, annotations: { size: 1 } }, /cache layer with missing diffid/],
    [{ blob, annotations: { diffID: 'x' } }, /diffID with bad digest "x"/],
    [{ blob, annotations: { diffID: blob, mediaType: 5 } }, /bad media type/],
    [{ blob, annotations: { diffID: blob, size: 'x' } }, /bad index x/],
  ] as const) {
    place.objects.set('config', JSON.stringify({ layers: [layer] }));
    await assert.rejects(place.read(), { message });
  }
});
