import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { rootKey } from '../solver/keystore.ts';
import { Chains, stackLayers } from './chains.ts';
import { type CacheConfig, decodeConfig, decodeRecords, encodeConfig } from './config.ts';
import { formatChains } from './format.ts';
import { importedCache } from './graph.ts';
import { inlineCache } from './inline.ts';
import { parseChains } from './parse.ts';

const blob = (name: string): Descriptor => ({
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  digest: digestOf(name),
  size: 1,
  annotations: { [annotationUncompressed]: digestOf(`${name} unpacked`) },
});
const A = blob('a');
const B = blob('b');
const BLOBS = new Map<Digest, Descriptor>([A, B].map((one) => [one.digest, one]));
const AT = Date.parse('2026-01-02T03:04:05.600Z');

/** source → step (A) → top (A, B); the step is known by two sources. */
function sample(): Chains {
  const chains = new Chains();
  const [one, two] = [chains.add('sha256:s1', []), chains.add('sha256:s2', [])];
  const low = chains.stack(A, undefined, undefined);
  const inputs = [
    [
      { item: one, selector: '' },
      { item: two, selector: 'sha256:sel' },
    ],
  ];
  const step = chains.add('sha256:step', inputs, [{ stack: low, createdAt: AT }]);
  const result = { stack: chains.stack(B, low, undefined), createdAt: AT };
  chains.add('sha256:top', [[{ item: step, selector: '' }], [{ item: two, selector: '' }]], [result]);
  return chains;
}

const [LOW, HIGH] = A.digest < B.digest ? [A, B] : [B, A];
const parentOf = (layer: Descriptor): number => (layer === A ? -1 : LOW === A ? 0 : 1);
const layerJson = (layer: Descriptor): string =>
  `{"blob":"${layer.digest}"${parentOf(layer) === 0 ? '' : `,"parent":${parentOf(layer)}`}}`;
const index = (layer: Descriptor): number => (layer === LOW ? 0 : 1);
const SAMPLE_JSON =
  `{"layers":[${layerJson(LOW)},${layerJson(HIGH)}],"records":[` +
  '{"digest":"sha256:s1"},{"digest":"sha256:s2"},' +
  `{"layers":[{"layer":${index(A)},"createdAt":"2026-01-02T03:04:05.6Z"}],"digest":"sha256:step",` +
  '"inputs":[[{"link":0},{"selector":"sha256:sel","link":1}]]},' +
  `{"layers":[{"layer":${index(B)},"createdAt":"2026-01-02T03:04:05.6Z"}],"digest":"sha256:top",` +
  '"inputs":[[{"link":2}],[{"link":1}]]}]}';

test('a cache is written as Go writes it, in an order of its own, and read again', () => {
  const { config, layers } = formatChains(sample());
  const json = Buffer.from(encodeConfig(config)).toString();
  assert.equal(json, SAMPLE_JSON);
  assert.deepEqual(
    layers.map(({ descriptor }) => descriptor.digest),
    [LOW.digest, HIGH.digest],
  );
  const again = formatChains(parseChains(decodeConfig(Buffer.from(json)), BLOBS));
  assert.equal(Buffer.from(encodeConfig(again.config)).toString(), json);
});

test('a result without its blob is left out, its record stays', () => {
  const config = decodeConfig(Buffer.from(SAMPLE_JSON));
  const read = parseChains(config, new Map([[A.digest, A]]));
  const results = [...read.items].map(({ digest, best }) => [digest, best && stackLayers(best.stack).length]);
  assert.deepEqual(new Map(results as [string, number][]).get('sha256:step'), 1);
  assert.deepEqual(new Map(results as [string, number][]).get('sha256:top'), undefined);
  assert.equal(results.length, 4);
});

test('what leads nowhere or round is refused in words', () => {
  const record = { digest: 'd', inputs: [], results: [], chains: [] };
  const at = { createdAt: 0 };
  const layer = (parent: number) => ({ blob: A.digest, parent });
  const refused = (config: Partial<CacheConfig>, message: RegExp): void => {
    assert.throws(() => parseChains({ layers: [], records: [], ...config }, BLOBS), { message });
  };
  const input = (link: number) => [[{ selector: '', link }]];
  refused({ records: [{ ...record, inputs: input(0) }] }, /^invalid looping record$/);
  refused(
    {
      records: [
        { ...record, inputs: input(1) },
        { ...record, inputs: input(0) },
      ],
    },
    /^invalid looping record$/,
  );
  refused({ records: [{ ...record, inputs: input(7) }] }, /^invalid record ID: 7$/);
  refused({ records: [{ ...record, inputs: [[]] }] }, /^invalid empty input for record 0$/);
  const result = { ...record, results: [{ layer: 0, ...at }] };
  refused({ records: [result] }, /^invalid layer index 0$/);
  refused({ records: [{ ...record, results: [{ layer: -1, ...at }] }] }, /^invalid layer index -1$/);
  refused({ layers: [layer(0)], records: [result] }, /^invalid looping layer$/);
  refused({ records: [{ ...record, chains: [{ layers: [3], ...at }] }] }, /^invalid layer index 3$/);
  assert.throws(() => decodeConfig(Buffer.from('{"records":{}}')), /records is no list/);
  assert.throws(() => decodeConfig(Buffer.from('{"layers":[{"blob":"x"}]}')), /bad digest "x"/);
  assert.throws(() => decodeRecords(Buffer.from('[{"inputs":[[{"link":0.5}]]}]')), /bad index 0.5/);
});

test('equal items are one; merging them makes no loop', () => {
  const chains = new Chains();
  const root = chains.add('root', []);
  const [x, y] = ['x', 'y'].map((selector) => chains.add('step', [[{ item: root, selector }]]));
  assert.notEqual(x, y);
  const top = chains.add('top', [[{ item: y!, selector: '' }]]);
  const both = chains.add('step', [
    [
      { item: root, selector: 'x' },
      { item: root, selector: 'y' },
    ],
  ]);
  assert.equal(both, x);
  assert.equal(chains.items.size, 3, 'the second one is gone');
  assert.ok(top.hasInput(0, { item: x!, selector: '' }));
  // What is made from an item cannot become its input.
  assert.equal(
    chains.add('step', [
      [
        { item: root, selector: 'x' },
        { item: top, selector: '' },
      ],
    ]),
    x,
  );
  assert.ok(!x!.hasInput(0, { item: top, selector: '' }));
});

test('an imported cache answers by digest and output, and tells what it has learned of links', () => {
  const chains = new Chains();
  const source = rootKey(digestOf('source'), 0);
  const step = digestOf('run');
  chains.add(
    rootKey(step, 1),
    [[{ item: chains.add(source, []), selector: 'sel' }]],
    [{ stack: chains.stack(A, undefined, undefined), createdAt: AT }],
  );
  const { keys } = importedCache(chains, 'id', {
    refs: { getByBlob: () => assert.fail() },
    provider: () => assert.fail(),
    eager: false,
  });
  const link = { input: 0, output: 1, digest: step, selector: 'sel' };
  assert.deepEqual(keys.query(source, { ...link, output: 0 }), []);
  assert.deepEqual(keys.query(source, { ...link, selector: '' }), []);
  const known = (): unknown => keys.backlinks(key)[0]?.link;
  const key = [...chains.items].map((_, i) => i).length === 2 ? keys.query(source, link)[0]! : '';
  assert.match(key, /^imported:/);
  assert.deepEqual(known(), link);
  assert.equal(keys.records(key)[0]?.createdAt, AT);
  const fresh = importedCache(chains, 'other', {
    refs: { getByBlob: () => assert.fail() },
    provider: () => assert.fail(),
    eager: false,
  });
  assert.deepEqual(fresh.keys.backlinks(key)[0]?.link, {
    ...link,
    output: -2,
    digest: rootKey(step, 1),
  });
  assert.notEqual(fresh.keys.records(key)[0]?.resultId, keys.records(key)[0]?.resultId);
});

test('the cache of an image names results by its layers', () => {
  const records = (layers: readonly Digest[]) => {
    const data = inlineCache(sample(), layers);
    return data && decodeRecords(data);
  };
  const results = (layers: readonly Digest[]) =>
    records(layers)?.flatMap(({ results: own, chains }) => [
      ...own.map(({ layer }) => layer),
      ...chains.map((chain) => chain.layers),
    ]);
  assert.deepEqual(results([A.digest, B.digest]), [0, 1]);
  assert.deepEqual(results([A.digest]), [0], 'the upper one is not in the image');
  assert.deepEqual(results([digestOf('a unpacked'), digestOf('b unpacked')]), [0, 1], 'other compression');
  assert.deepEqual(results([digestOf('other'), A.digest, B.digest]), [[1], [1, 2]]);
  assert.equal(records([digestOf('other')]), undefined);
  assert.equal(records([A.digest])?.length, 4);
});
