import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { notFound } from '../base/errors.ts';
import type { BlobProvider, ImmutableRef } from '../cache/ref.ts';
import { MemoryKeyStore, rootKey } from '../solver/keystore.ts';
import type { VertexProgress } from '../solver/types.ts';
import { Chains } from './chains.ts';
import { decodeConfig, encodeConfig } from './config.ts';
import { formatChains } from './format.ts';
import { importedCache } from './graph.ts';
import { parseChains } from './parse.ts';
import { type ExportMode, traceCache } from './trace.ts';

const SOURCE = rootKey(digestOf('source'), 0);
const progress: VertexProgress = { log: () => {}, status: () => {}, warn: () => {} };
const context = { signal: new AbortController().signal, progress, sessions: () => [] };

/** A cache whose results are names of layers, `a/b` for b on a; those in `made` have blobs. */
class World {
  readonly keys = new MemoryKeyStore();
  readonly edges = new Map<string, { exportCache?: boolean }>();
  readonly made = new Set<string>();
  readonly lost = new Set<string>();
  readonly created: string[] = [];
  open = 0;

  step(
    name: string,
    from: readonly string[],
    layers: string,
    options: { exportCache?: boolean } = {},
  ): string {
    for (const [input, key] of from.entries())
      this.keys.link(key, { input, output: 0, digest: digestOf(name), selector: '' }, name);
    this.keys.addRecord({ key: name, resultId: layers, createdAt: 1 });
    this.edges.set(name, options);
    return name;
  }

  #ref(layers: string): ImmutableRef {
    this.open++;
    const names = layers.split('/');
    const has = async ({ digest }: { digest: Digest }) =>
      ![...this.lost].some((name) => digestOf(name) === digest);
    const ref: Pick<ImmutableRef, 'ensureBlobs' | 'providers' | 'release'> = {
      ensureBlobs: async ({ create }) => {
        if (!create && !this.made.has(layers)) throw notFound('no blobs for snapshot');
        if (!this.made.has(layers)) this.created.push(layers);
        this.made.add(layers);
        return names.map((name) => ({ mediaType: '', digest: digestOf(name), size: 1 }));
      },
      providers: () => new Map(names.map((name) => [digestOf(name), { has } as unknown as BlobProvider])),
      release: async () => void this.open--,
    };
    return ref as ImmutableRef;
  }

  /** What an export says of each step: its number of layers, undefined without a result. */
  async export(key: string, mode: ExportMode, more: Parameters<typeof traceCache>[1]['sources'] = []) {
    const results = { load: async (id: string) => this.#ref(id), save: () => '' };
    const trace = { keys: this.edges, sources: [{ keys: this.keys, results }, ...more] };
    const options = { mode, compression: { type: 'gzip', force: false }, lease: 'l' } as const;
    const traced = await traceCache([[key]], trace, options, context);
    const { config } = formatChains(traced.chains);
    await traced[Symbol.asyncDispose]();
    assert.equal(this.open, 0, 'all refs are given back');
    const names = new Map([SOURCE, ...this.edges.keys()].map((name) => [rootKey(digestOf(name), 0), name]));
    const told = config.records.map(({ digest, results: own }): [string, boolean] => [
      digest === SOURCE ? 'source' : (names.get(digest) ?? digest),
      own.length > 0,
    ]);
    return { config, told: Object.fromEntries(told) };
  }
}

test('min takes what has its blobs below the last result, max makes them all', async () => {
  for (const mode of ['min', 'max'] as const) {
    const world = new World();
    const low = world.step('low', [SOURCE], 'a');
    const other = world.step('other', [SOURCE], 'b');
    const top = world.step('top', [low, other], 'a/c');
    world.made.add('a');
    const { told } = await world.export(top, mode);
    assert.deepEqual(told, { source: false, low: true, other: mode === 'max', top: true });
    assert.deepEqual(world.created, mode === 'max' ? ['a/c', 'b'] : ['a/c']);
  }
});

test('min goes on looking when the last step has no result to give', async () => {
  const world = new World();
  const low = world.step('low', [SOURCE], 'a');
  const top = world.step('top', [low], 'a/b', { exportCache: false });
  assert.deepEqual((await world.export(top, 'min')).told, { source: false, low: true, top: false });
});

test('results of other jobs and those whose layers are gone are left out, their keys are not', async () => {
  const world = new World();
  const foreign = world.step('foreign', [SOURCE], 'x');
  const lost = world.step('lost', [foreign], 'y');
  const top = world.step('top', [lost], 'z');
  world.lost.add('y');
  world.edges.delete('foreign');
  const { told } = await world.export(top, 'max');
  assert.deepEqual(told, { source: false, [rootKey(digestOf('foreign'), 0)]: false, lost: false, top: true });
});

test('loops end; what only this session can reach is left out', async () => {
  const world = new World();
  const loop = world.step('loop', [SOURCE], 'a');
  world.keys.link(loop, { input: 0, output: 0, digest: digestOf('loop'), selector: '' }, loop);
  const passing = world.step('passing', ['random:x'], 'b');
  const top = world.step('top', [loop, passing], 'c');
  assert.deepEqual((await world.export(top, 'max')).told, { source: false, loop: true });
});

test('a chain of thousands of steps does not overflow', async () => {
  const world = new World();
  let key = SOURCE;
  for (let i = 0; i < 5_000; i++) key = world.step(`step ${i}`, [key], 'a');
  const { config } = await world.export(key, 'min');
  assert.equal(config.records.length, 5_001);
});

test('a cache that was imported is exported again as it was', async () => {
  const world = new World();
  const low = world.step('low', [SOURCE], 'a');
  const top = world.step('top', [low, SOURCE], 'a/b');
  const { config } = await world.export(top, 'max');
  const blobs = new Map(
    ['a', 'b'].map((name) => [digestOf(name), { mediaType: '', digest: digestOf(name), size: 1 }]),
  );
  const chains = parseChains(decodeConfig(encodeConfig(config)), blobs);
  const asked: string[] = [];
  const imported = importedCache(chains, 'id', {
    refs: {
      getByBlob: async ({ digest }, parent) => {
        asked.push(digest);
        const below = parent ? await parent.ensureBlobs(undefined as never) : [];
        const all = [...below, { mediaType: '', digest, size: 1 }];
        const ref = { ensureBlobs: async () => all, providers: () => new Map(), release: async () => {} };
        return ref as unknown as ImmutableRef;
      },
    },
    provider: () => ({ open: () => assert.fail() }),
    eager: false,
  });
  const link = (name: string, input: number) => ({ input, output: 0, digest: digestOf(name), selector: '' });
  const [lowKey] = imported.keys.query(SOURCE, link('low', 0));
  const [topKey] = imported.keys.query(lowKey!, link('top', 0));
  const own = new World();
  for (const key of [lowKey!, topKey!]) own.edges.set(key, {});
  const again = await own.export(topKey!, 'max', [imported]);
  assert.deepEqual(again.config, config);
  // What came along with a loaded record: the lower part of its layers.
  const record = imported.keys.records(topKey!)[0]!;
  const parts = await imported.results.parts!(record, context);
  assert.deepEqual(
    parts.map((part) => part.record.key),
    [lowKey],
  );
});

test('an empty graph is no cache', () => {
  assert.deepEqual(formatChains(new Chains()).config, { layers: [], records: [] });
});
