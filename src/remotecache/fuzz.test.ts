import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { Random } from '../testing/fuzz/random.ts';
import { stackLayers } from './chains.ts';
import { type CacheConfig, decodeConfig, encodeConfig } from './config.ts';
import { formatChains } from './format.ts';
import { importedCache } from './graph.ts';
import { decodeCacheManifest } from './manifest.ts';
import { parseChains } from './parse.ts';

const CASES = 3_000;
/** About as many as the largest config that is read can hold. */
const MANY = 5_000;
const MAX_MS = 10_000;

const digests = Array.from({ length: 6 }, (_, i) => digestOf(`blob ${i}`));
const BLOBS = new Map<Digest, Descriptor>(
  digests.slice(1).map((digest) => [digest, { mediaType: '', digest, size: 1 }]),
);
const layers = { refs: { getByBlob: () => assert.fail() }, provider: () => assert.fail(), eager: false };

function randomConfig(random: Random): unknown {
  const index = (): unknown => (random.once(40) ? random.pick([-2, 1e9, 'x', null, 0.5]) : random.below(4));
  const time = (): unknown => (random.once(40) ? 'never' : '2026-01-02T03:04:05Z');
  const value = (good: unknown): unknown =>
    random.once(60) ? random.pick([null, 0, 'x', [], {}, [[]], true]) : good;
  const list = (make: () => unknown): unknown => value(random.list(4, () => value(make())));
  const input = (i: number): unknown => ({
    link: random.once(20) ? index() : random.below(i),
    selector: value(''),
  });
  return value({
    layers: list(() => ({ blob: value(random.pick(digests)), parent: random.once(2) ? -1 : index() })),
    records: value(
      Array.from({ length: 1 + random.below(8) }, (_, i) => ({
        digest: value(`d${random.below(4)}`),
        // Mostly links to records before it: others are refused at once.
        inputs: i === 0 ? [] : list(() => value([input(i), ...random.list(2, () => input(i))])),
        layers: list(() => ({ layer: index(), createdAt: time() })),
        chains: random.once(3) ? list(() => ({ layers: list(index), createdAt: time() })) : undefined,
      })),
    ),
  });
}

test('random caches are read or refused; what was read is written and can be read', () => {
  let read = 0;
  for (let seed = 0; seed < CASES; seed++) {
    const text = JSON.stringify(randomConfig(new Random(seed)));
    try {
      const chains = parseChains(decodeConfig(Buffer.from(text)), BLOBS);
      const { keys } = importedCache(chains, 'id', layers);
      for (const { digest } of chains.items) keys.backlinks(digest);
      const json = Buffer.from(encodeConfig(formatChains(chains).config)).toString();
      const again = formatChains(parseChains(decodeConfig(Buffer.from(json)), BLOBS));
      assert.ok(again.config.records.length <= chains.items.size, text);
      read++;
    } catch (error) {
      assert.ok(error instanceof BuildError, `seed ${seed}: ${text}\n${(error as Error).stack}`);
    }
  }
  assert.ok(read > CASES / 20, `${read} of ${CASES} were read`);
});

test('manifests that make no sense are refused in words', () => {
  const refused: [string, RegExp][] = [
    ['', /failed to parse cache manifest/],
    ['null', /invalid cache manifest/],
    ['{"config":{},"manifests":[]}', /invalid ambiguous manifest and manifest list/],
    [
      '{"mediaType":"application/vnd.oci.image.index.v1+json","layers":[]}',
      /mediaType in manifest does not match manifest contents/,
    ],
    ['{"manifests":{}}', /entries are no list/],
    ['{"manifests":[{"digest":"x","size":1}]}', /invalid descriptor manifests\[0\]: bad digest "x"/],
    ['{"layers":[]}', /invalid descriptor config: missing/],
  ];
  for (const [text, message] of refused)
    assert.throws(() => decodeCacheManifest(Buffer.from(text)), { message });
  assert.equal(
    decodeCacheManifest(Buffer.from('{"manifests":null}')).mediaType,
    'application/vnd.docker.distribution.manifest.list.v2+json',
  );
});

test('large caches of the worst shapes take seconds at most', () => {
  const digest = digests[1]!;
  const record = { digest: 'd', inputs: [], results: [], chains: [] };
  const many = <T>(make: (i: number) => T): T[] => Array.from({ length: MANY }, (_, i) => make(i));
  const link = (to: number, selector = '') => ({ link: to, selector });
  const shapes: Record<string, CacheConfig> = {
    'a long chain, all with results': {
      layers: many((i) => ({ blob: digest, parent: i - 1 })),
      records: many((i) => ({
        ...record,
        inputs: i === 0 ? [] : [[link(i - 1)]],
        results: [{ layer: i, createdAt: 0 }],
      })),
    },
    'items that become one': {
      layers: [],
      records: many((i) => ({
        ...record,
        digest: i === 0 ? 'root' : 'step',
        inputs: i === 0 ? [] : [i % 2 ? [link(0, `${i}`)] : [link(0, `${i - 1}`), link(0, `${i + 1}`)]],
      })),
    },
    'one item, ever more inputs': {
      layers: [],
      records: many((i) => ({
        ...record,
        digest: i % 2 ? 'step' : `root${i}`,
        inputs: i % 2 ? [[link(0), link(i - 1)]] : [],
      })),
    },
  };
  for (const [name, config] of Object.entries(shapes)) {
    const before = process.cpuUsage();
    const chains = parseChains(config, BLOBS);
    importedCache(chains, 'id', layers);
    const { user, system } = process.cpuUsage(before);
    assert.ok((user + system) / 1000 < MAX_MS, `${name}: ${(user + system) / 1000} ms`);
    const deepest = Math.max(
      0,
      ...[...chains.items].map(({ best }) => (best ? stackLayers(best.stack).length : 0)),
    );
    assert.ok(deepest <= MANY);
  }
});
