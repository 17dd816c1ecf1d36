import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { digestOf } from '../base/digest.ts';
import { temporaryStore } from '../testing/store.ts';
import { type GcGraph, type GcNode, isLive, labelTargets } from './gc.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const reference = (digest: string): Record<string, string> => ({ 'containerd.io/gc.ref.content.0': digest });

/** Forward marking of a whole graph: slow and plain, to hold the backward search against. */
function markAll(
  roots: readonly { node: string; deep: boolean }[],
  edges: readonly { from: string; to: string; firm: boolean }[],
): Set<string> {
  const live = new Set(roots.map((r) => `${r.node} ${r.deep}`));
  for (const key of live) {
    const [node, deep] = key.split(' ') as [string, string];
    for (const e of edges) if (e.from === node && (deep === 'true' || e.firm)) live.add(`${e.to} ${deep}`);
  }
  return new Set([...live].map((key) => key.split(' ')[0]!));
}

test('the backward search agrees with marking forward on random graphs', () => {
  let seed = 7;
  const random = (n: number): number => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
  for (let round = 0; round < 300; round++) {
    const names = Array.from({ length: 12 }, (_, i) => `n${i}`);
    const pick = (): string => names[random(names.length)]!;
    const edges = Array.from({ length: random(25) }, () => ({
      from: pick(),
      to: pick(),
      firm: random(2) === 0,
    }));
    const roots = Array.from({ length: random(4) }, () => ({ node: pick(), deep: random(2) === 0 }));
    const node = (id: string): GcNode => ({ kind: 'content', id });
    const graph: GcGraph = {
      held: ({ id }) => {
        const mine = roots.filter((r) => r.node === id);
        return mine.some((r) => r.deep) ? 'deep' : mine.length > 0 ? 'flat' : undefined;
      },
      referrers: ({ id }) =>
        edges.filter((e) => e.to === id).map((e) => ({ node: node(e.from), firm: e.firm })),
    };
    const expected = markAll(roots, edges);
    for (const name of names)
      assert.equal(isLive(graph, node(name)), expected.has(name), `round ${round} ${name}`);
  }
});

test('gc labels name what they keep', () => {
  const labels = {
    'containerd.io/gc.ref.content.config': 'c',
    'containerd.io/gc.ref.content.blob-x': 'x',
    'containerd.io/gc.ref.content': 'p',
    'containerd.io/gc.ref.snapshot.overlayfs': 's',
    'containerd.io/gc.ref.contents': 'no',
    'containerd.io/uncompressed': 'no',
  };
  assert.deepEqual(
    labelTargets(labels).map((n) => `${n.kind} ${n.id}`),
    ['content c', 'content x', 'content p', 'snapshot s'],
  );
});

test('a lease keeps what labels reach unless it is flat', async () => {
  await using fixture = await temporaryStore();
  const { store, content, leases } = fixture;
  const work = leases.hold();
  const layer = await content.writeBlob(bytes('layer'), { lease: work.id });
  const manifest = await content.writeBlob(bytes('manifest'), {
    lease: work.id,
    labels: reference(layer.digest),
  });
  leases.create({ id: 'deep' });
  leases.add('deep', { kind: 'content', id: manifest.digest });
  leases.create({ id: 'flat', flat: true });
  leases.add('flat', { kind: 'content', id: manifest.digest });
  work[Symbol.dispose]();
  assert.equal(await store.gc(), 0);
  leases.delete('deep');
  assert.equal(await store.gc(), 1);
  assert.deepEqual([content.has(manifest.digest), content.has(layer.digest)], [true, false]);
  leases.delete('flat');
  assert.equal(await store.gc(), 1);
  assert.equal(content.has(manifest.digest), false);
});

test('circles of variants go together, and so does what only they kept', async () => {
  await using fixture = await temporaryStore();
  const { store, content, leases } = fixture;
  const work = leases.hold();
  const digests = [digestOf('a'), digestOf('b'), digestOf('c')];
  await content.writeBlob(bytes('a'), { lease: work.id, labels: reference(digests[1]!) });
  await content.writeBlob(bytes('b'), {
    lease: work.id,
    labels: { ...reference(digests[0]!), 'containerd.io/gc.ref.content.1': digests[2]! },
  });
  await content.writeBlob(bytes('c'), { lease: work.id });
  leases.create({ id: 'one' });
  leases.add('one', { kind: 'content', id: digests[0]! });
  work[Symbol.dispose]();
  assert.equal(await store.gc(), 0);
  content.updateLabels(digests[1]!, { 'containerd.io/gc.ref.content.1': null });
  assert.equal(await store.gc(), 1);
  leases.delete('one');
  assert.equal(await store.gc(), 2);
});

test('a chain of snapshots stays while its top is held and goes with it', async () => {
  await using fixture = await temporaryStore();
  const { store, snapshots, leases } = fixture;
  const work = leases.hold();
  leases.create({ id: 'top', flat: true });
  let parent: string | undefined;
  for (const name of ['a', 'b', 'c']) {
    await snapshots.prepare(`${name}-work`, parent, { lease: work.id });
    leases.add(name === 'c' ? 'top' : work.id, { kind: 'snapshot', id: name });
    snapshots.commit(name, `${name}-work`);
    parent = name;
  }
  work[Symbol.dispose]();
  assert.equal(await store.gc(), 0);
  leases.delete('top');
  assert.equal(await store.gc(), 3);
  assert.equal(snapshots.stat('a'), undefined);
});

test('an expired lease holds nothing', async () => {
  await using fixture = await temporaryStore();
  const { store, content, leases } = fixture;
  leases.create({ id: 'short', expiresInMs: 1 });
  const { digest } = await content.writeBlob(bytes('x'), { lease: 'short' });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(await store.gc(), 1);
  assert.equal(content.has(digest), false);
  assert.equal(leases.get('short'), undefined);
});

test('collection runs beside writers and readers without harm', async () => {
  await using fixture = await temporaryStore();
  const { store, content, leases } = fixture;
  let stop = false;
  const collector = (async () => {
    for (; !stop; await nextTurn()) await store.gc();
  })();
  const worker = async (id: number): Promise<void> => {
    for (let i = 0; i < 40; i++) {
      // Some texts are shared between workers: written while another's copy is being collected.
      const text = i % 2 ? `shared ${i}` : `own ${id} ${i}`;
      using lease = leases.hold();
      const { digest } = await content.writeBlob(bytes(text), { lease: lease.id });
      assert.equal(Buffer.from(await content.readAll(digest)).toString(), text);
    }
  };
  try {
    await Promise.all([1, 2, 3, 4].map(worker));
  } finally {
    stop = true;
  }
  await collector;
  await store.gc();
  for await (const info of content.list()) assert.fail(`left over: ${info.digest}`);
});
