import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { temporaryStore } from '../testing/store.ts';
import type { LocalRefManager } from './manager.ts';
import { byUse, keepBytes } from './prune.ts';
import type { RecordRow } from './records.ts';
import type { ImmutableRef, NewRecordOptions, PruneOptions, UsageRecord } from './ref.ts';

const KB = 1000;

async function cache(freeBytes?: () => number) {
  const fixture = await temporaryStore();
  const refs = openTestCache(fixture.store, undefined, freeBytes ? { freeBytes } : {});
  return { ...fixture, refs, [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose]() };
}

/** A record of about `kilobytes` more than two blocks. */
async function record(
  refs: LocalRefManager,
  parent: ImmutableRef | undefined,
  options: NewRecordOptions = {},
  kilobytes = 0,
): Promise<ImmutableRef> {
  await using mutable = await refs.newMutable(parent, options);
  await using mounts = await mutable.mount(false);
  withMounted(mounts.mounts, (dir) => writeFileSync(join(dir, 'file'), Buffer.alloc(kilobytes * KB, 1)));
  return await mutable.commit();
}

async function prune(refs: LocalRefManager, ...rules: PruneOptions[]): Promise<string[]> {
  const removed: UsageRecord[] = [];
  for await (const one of refs.prune(rules)) removed.push(one);
  return removed.map((one) => one.description);
}

const left = async (refs: LocalRefManager): Promise<string[]> =>
  (await refs.diskUsage()).map((r) => r.description).sort();

test('usage tells sizes, parents and use', async () => {
  await using fixture = await cache();
  const { refs } = fixture;
  await using a = await record(refs, undefined, { description: 'a', type: 'frontend' }, 100);
  const b = await record(refs, a, { description: 'b' });
  await b.release();
  await using work = await refs.newMutable(a, { description: 'w' });
  const usage = await refs.diskUsage();
  const of = (id: string): UsageRecord => usage.find((r) => r.id === id)!;
  assert.equal(usage.length, 3);
  assert.ok(of(a.id).size >= 100 * KB && of(a.id).size < 130 * KB);
  assert.deepEqual([of(a.id).recordType, of(a.id).inUse, of(a.id).usageCount], ['frontend', true, 0]);
  assert.deepEqual([of(b.id).parents, of(b.id).inUse, of(b.id).usageCount], [[a.id], false, 1]);
  assert.ok(of(b.id).lastUsedAt! > new Date(Date.now() - 60_000));
  assert.deepEqual([of(work.id).mutable, of(work.id).inUse, of(work.id).size], [true, true, 0]);
  assert.equal((await refs.diskUsage({ filters: ['type==frontend'] })).length, 1);
  assert.equal((await refs.diskUsage({ filters: ['description==b', 'description==w'] })).length, 2);
  assert.equal((await refs.diskUsage({ ageLimitMs: 60_000 })).length, 2);
});

test('prune takes what nobody uses, children first, and frees the disk', async () => {
  await using fixture = await cache();
  const { refs, store } = fixture;
  const a = await record(refs, undefined, { description: 'a' });
  const b = await record(refs, a, { description: 'b' });
  const used = await record(refs, undefined, { description: 'used' });
  const upper = await record(refs, used, { description: 'upper' });
  const front = await record(refs, undefined, { description: 'front', type: 'frontend' });
  for (const ref of [a, b, used, front]) await ref.release();
  assert.deepEqual(await prune(refs, {}), ['b', 'a']);
  assert.deepEqual(await left(refs), ['front', 'upper', 'used']);
  assert.deepEqual(await prune(refs, { all: true, filters: ['description==nothing'] }), []);
  assert.deepEqual(await prune(refs, { all: true }), ['front']);
  await upper.release();
  assert.deepEqual(await prune(refs, {}), ['upper', 'used']);
  assert.equal(fixture.snapshots.stat(a.id), undefined);
  await store.trashEmptied();
  assert.equal(await store.gc(), 0);
});

test('keep duration and filters protect', async () => {
  await using fixture = await cache();
  const { refs, store } = fixture;
  for (const description of ['old', 'new']) await (await record(refs, undefined, { description })).release();
  store.db.run("UPDATE records SET last_used_at = ? WHERE description = 'old'", Date.now() - 100_000);
  assert.deepEqual(await prune(refs, { keepDurationMs: 50_000, filters: ['description==new'] }), []);
  assert.deepEqual(await prune(refs, { keepDurationMs: 50_000 }), ['old']);
  assert.deepEqual(await prune(refs, { filters: ['mutable'] }), []);
  assert.deepEqual(await prune(refs, { filters: ['immutable'] }), ['new']);
});

test('a size cap removes the least used until it is met', async () => {
  await using fixture = await cache(() => 1000 * KB);
  const { refs, store } = fixture;
  for (const [i, description] of ['a', 'b', 'c', 'd'].entries()) {
    await (await record(refs, undefined, { description }, 100)).release();
    store.db.run('UPDATE records SET last_used_at = ? WHERE description = ?', 1000 + i, description);
  }
  assert.deepEqual(await prune(refs, { maxUsedSpace: 1000 * KB }), []);
  assert.deepEqual(await prune(refs, { maxUsedSpace: 250 * KB, reservedSpace: 350 * KB }), ['a']);
  assert.deepEqual(await prune(refs, { minFreeSpace: 900 * KB }), []);
  assert.deepEqual(await prune(refs, { minFreeSpace: 1150 * KB }), ['b', 'c']);
  assert.deepEqual(await left(refs), ['d']);
});

test('a mutable with an unused result is one record', async () => {
  await using fixture = await cache();
  const { refs } = fixture;
  const source = await refs.newMutable(undefined, { retain: true, description: 'src', type: 'source.local' });
  const result = await source.commit();
  assert.deepEqual(await prune(refs, { all: true }), []);
  await result.release();
  assert.deepEqual(await prune(refs, { filters: ['type==source.local'] }), ['src']);
  assert.equal(refs.metadata(result.id), undefined);
  assert.deepEqual(
    fixture.store.leases.list().map((l) => l.id),
    [fixture.lease],
  );
});

test('a reader that starts during a prune keeps its record', async () => {
  await using fixture = await cache();
  const { refs } = fixture;
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) {
    const ref = await record(refs, undefined, { description: `r${i}` });
    ids.push(ref.id);
    await ref.release();
  }
  const removed: string[] = [];
  const held: ImmutableRef[] = [];
  for await (const one of refs.prune([{}])) {
    removed.push(one.id);
    const rest = ids.find((id) => !removed.includes(id));
    if (rest !== undefined && held.length === 0) held.push(await refs.get(rest));
  }
  assert.equal(removed.length, 4);
  await held[0]!.extract();
  assert.equal((await refs.diskUsage()).length, 1);
  await held[0]!.release();
});

test('caps: what each number means', () => {
  assert.equal(keepBytes({}, 500, 10), 0);
  assert.equal(keepBytes({ maxUsedSpace: 100 }, 500, 10), 100);
  assert.equal(keepBytes({ reservedSpace: 300, maxUsedSpace: 100 }, 500, 10), 300);
  assert.equal(keepBytes({ minFreeSpace: 50 }, 500, 10), 460);
  assert.equal(keepBytes({ minFreeSpace: 50 }, 500, 60), 501);
  assert.equal(keepBytes({ minFreeSpace: 50, maxUsedSpace: 450 }, 500, 10), 450);
  assert.equal(keepBytes({ minFreeSpace: 50, maxUsedSpace: 470 }, 500, 10), 460);
  assert.equal(keepBytes({ minFreeSpace: 5000 }, 500, 10), 1);
});

test('recency and frequency weigh the same', () => {
  const row = (id: string, last_used_at: number | null, usage_count: number): RecordRow =>
    ({ id, last_used_at, usage_count }) as RecordRow;
  const rows = [row('often', 1, 50), row('late', 9, 1), row('never', null, 0), row('both', 9, 50)];
  const order = byUse(rows).map((r) => r.id);
  assert.equal(order[0], 'never');
  assert.equal(order.at(-1), 'both');
});

test('whoever keeps something by record is told within the removal', async () => {
  await using fixture = await temporaryStore();
  const removed: string[] = [];
  const refs = openTestCache(fixture.store, undefined, { removed: (id) => removed.push(id) });
  const a = await record(refs, undefined, { description: 'a' });
  await a.release();
  await prune(refs, {});
  assert.deepEqual(removed, [a.id]);
});

test('what records share is counted once, and by another when the first is gone', async () => {
  await using fixture = await temporaryStore();
  const refs = openTestCache(fixture.store);
  const layer = async (data: string): Promise<Descriptor> => {
    const { digest, size } = await fixture.content.writeBlob(Buffer.from(data), { lease: fixture.lease });
    const annotations = { [annotationUncompressed]: digestOf(`${data} unpacked`) };
    return { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size, annotations };
  };
  const shared = await layer('shared'.repeat(100));
  await using base = await refs.getByBlob(await layer('base'), undefined);
  const alone = await refs.getByBlob(shared, undefined, { description: 'alone' });
  await using above = await refs.getByBlob(shared, base, { description: 'above' });
  const sizes = async (): Promise<number> => (await refs.diskUsage()).reduce((sum, r) => sum + r.size, 0);
  assert.equal(await sizes(), 604);
  assert.match(
    refs
      .holders(new Map([[above.id, ['b1']]]))
      .reasons(above.id)
      .join(),
    /^in use by build b1$/,
  );
  assert.match(refs.holders(new Map()).reasons(base.id).join(), new RegExp(`^parent of ${above.id}`));
  await alone.release();
  assert.ok(refs.holders(new Map()).reasons(alone.id).includes(`shares its bytes with ${above.id}`));
  assert.ok(
    refs
      .holders(new Map())
      .reasons(alone.id)
      .some((r) => r.startsWith('bytes held by lease')),
  );
  assert.deepEqual(await prune(refs, { all: true }), ['alone']);
  assert.equal(await sizes(), 604);
  assert.equal((await refs.diskUsage()).find((r) => r.id === above.id)?.size, 600);
});
