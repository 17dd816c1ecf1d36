import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Code, hasCode } from '../base/errors.ts';
import { mountsUnder } from '../sys/mountinfo.ts';
import { countedLayerJobs, openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { openTestStore, temporaryRoot, temporaryStore } from '../testing/store.ts';
import { isLocked } from './core.ts';
import type { LocalRefManager } from './manager.ts';
import type { ImmutableRef, MutableRef, NewRecordOptions } from './ref.ts';

async function cache() {
  const fixture = await temporaryStore();
  const jobs = countedLayerJobs(fixture.store);
  return {
    ...fixture,
    jobs,
    cache: openTestCache(fixture.store, jobs),
    [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose](),
  };
}

async function write(ref: MutableRef, name: string, text: string): Promise<void> {
  await using mounts = await ref.mount(false);
  withMounted(mounts.mounts, (dir) => writeFileSync(join(dir, name), text));
}

async function list(ref: ImmutableRef | MutableRef): Promise<string[]> {
  await using mounts = await ref.mount(true);
  return withMounted(mounts.mounts, (dir) => {
    assert.throws(() => writeFileSync(join(dir, 'forbidden'), ''), /EROFS/);
    return readdirSync(dir).sort();
  });
}

async function step(
  refs: LocalRefManager,
  parent: ImmutableRef | undefined,
  name: string,
  options: NewRecordOptions = {},
): Promise<ImmutableRef> {
  await using mutable = await refs.newMutable(parent, { description: `step ${name}`, ...options });
  await write(mutable, name, name);
  return await mutable.commit();
}

test('steps stack up and are found by id, also after a restart', async () => {
  await using root = temporaryRoot();
  let id = '';
  {
    await using store = openTestStore(root.path);
    const refs = openTestCache(store);
    await using a = await step(refs, undefined, 'a');
    await using b = await step(refs, a, 'b');
    assert.deepEqual(await list(b), ['a', 'b']);
    assert.deepEqual(await list(a), ['a']);
    id = b.id;
  }
  await using store = openTestStore(root.path);
  const refs = openTestCache(store);
  await using b = await refs.get(id);
  assert.deepEqual(await list(b), ['a', 'b']);
  assert.equal(b.record.description, 'step b');
  assert.equal(b.record.usageCount, 1);
  await assert.rejects(refs.get('unknown'), (e) => hasCode(e, Code.notFound));
  await assert.rejects(refs.getMutable(id), (e) => hasCode(e, Code.invalidArgument));
});

test('a passing record is used like any other and goes with its last handle, or with the next start', async () => {
  await using root = temporaryRoot();
  let left = '';
  {
    await using store = openTestStore(root.path);
    const refs = openTestCache(store);
    const mutable = await refs.newMutable(undefined, { description: 'passing' });
    await write(mutable, 'a', 'a');
    const passing = await mutable.commit({ passing: true });
    const copy = passing.clone();
    await passing.release();
    await using above = await refs.newMutable(copy);
    assert.deepEqual(await list(above), ['a']);
    assert.ok((await refs.diskUsage()).some(({ id, inUse, size }) => id === copy.id && inUse && size > 0));
    await above.release();
    await copy.release();
    assert.deepEqual(await refs.diskUsage(), []);
    assert.ok((await store.gc()) > 0);
    await store.trashEmptied();
    assert.deepEqual(readdirSync(store.layout.snapshots), []);
    const kept = await refs.newMutable(undefined, { retain: true });
    await assert.rejects(kept.commit({ passing: true }), (e) => hasCode(e, Code.internal));
    await kept.release();
    const last = await (await refs.newMutable(undefined)).commit({ passing: true });
    left = last.id;
  }
  await using store = openTestStore(root.path);
  const refs = openTestCache(store);
  assert.equal(refs.metadata(left), undefined);
});

test('a handle ends once; a mutable without retain goes with it', async () => {
  await using fixture = await cache();
  const mutable = await fixture.cache.newMutable(undefined);
  const { id } = mutable;
  await mutable.release();
  await assert.rejects(mutable.release(), (e) => hasCode(e, Code.internal));
  await assert.rejects(mutable.mount(true), (e) => hasCode(e, Code.internal));
  assert.equal(fixture.cache.metadata(id), undefined);
  assert.equal(await fixture.store.gc(), 1);
  const failing = fixture.cache.newMutable(undefined, {}, { signal: AbortSignal.abort() });
  await assert.rejects(failing, /abort/);
  assert.deepEqual(await fixture.cache.diskUsage(), []);
});

test('a retained mutable is locked while held, and comes back with its content', async () => {
  await using fixture = await cache();
  const refs = fixture.cache;
  const mutable = await refs.newMutable(undefined, {
    retain: true,
    type: 'exec.cachemount',
    metadata: { 'cache-dir': 'k' },
  });
  await write(mutable, 'kept', 'x');
  await assert.rejects(refs.getMutable(mutable.id), isLocked);
  await mutable.release();
  const [found] = refs.search('cache-dir', 'k');
  assert.equal(found?.id, mutable.id);
  assert.deepEqual(refs.search('cache-dir', 'other'), []);
  assert.equal(refs.searchPrefix('cache-dir', 'k')[0]?.id, mutable.id);
  await using again = await refs.getMutable(mutable.id);
  assert.deepEqual(await list(again), ['kept']);
  again.record.set('cache-dir', undefined);
  assert.deepEqual(refs.search('cache-dir', 'k'), []);
});

test('a committed mutable is usable again until its result is finalized (F1)', async () => {
  await using fixture = await cache();
  const refs = fixture.cache;
  const source = await refs.newMutable(undefined, { retain: true, type: 'source.local' });
  await write(source, 'one', '1');
  const first = await source.commit();
  assert.notEqual(first.id, source.id);
  assert.deepEqual(await list(first), ['one']);
  await assert.rejects(refs.getMutable(source.id), isLocked);
  assert.deepEqual(
    (await refs.diskUsage()).map((r) => [r.id, r.inUse]),
    [[first.id, true]],
  );
  await first.release();
  assert.deepEqual(
    (await refs.diskUsage()).map((r) => [r.id, r.mutable, r.recordType, r.inUse]),
    [[source.id, true, 'source.local', false]],
  );

  const again = await refs.getMutable(source.id);
  await assert.rejects(refs.get(first.id), (e) => hasCode(e, Code.notFound));
  await write(again, 'two', '2');
  await using second = await again.commit();
  await using upper = await step(refs, second, 'three');
  assert.deepEqual(await list(upper), ['one', 'three', 'two']);
  assert.deepEqual(await list(second), ['one', 'two']);
  await assert.rejects(refs.getMutable(source.id), (e) => hasCode(e, Code.notFound));
});

test('an immutable ref of a mutable is found after a restart and shares its snapshot', async () => {
  await using root = temporaryRoot();
  let ids = ['', ''];
  {
    await using store = openTestStore(root.path);
    const refs = openTestCache(store);
    await using source = await refs.newMutable(undefined, { retain: true });
    await write(source, 'one', '1');
    await using first = await source.commit();
    ids = [source.id, first.id];
  }
  await using store = openTestStore(root.path);
  const refs = openTestCache(store);
  {
    await using first = await refs.get(ids[1]!);
    assert.deepEqual(await list(first), ['one']);
    await assert.rejects(refs.getMutable(ids[0]!), isLocked);
    await first.finalize();
    await first.finalize();
    assert.deepEqual(await list(first), ['one']);
  }
  await using first = await refs.get(ids[1]!);
  assert.deepEqual(await list(first), ['one']);
});

test('the next start drops what was being written', async () => {
  await using root = temporaryRoot();
  const store = openTestStore(root.path);
  const refs = openTestCache(store);
  const kept = await step(refs, undefined, 'a');
  const half = await refs.newMutable(kept);
  const retained = await refs.newMutable(undefined, { retain: true });
  await write(half, 'half', '');
  store.db[Symbol.dispose]();

  await using again = openTestStore(root.path);
  const reopened = openTestCache(again);
  assert.equal(await again.gc(), 1);
  assert.deepEqual((await reopened.diskUsage()).map((r) => r.id).sort(), [kept.id, retained.id].sort());
  await using ref = await reopened.get(kept.id);
  assert.deepEqual(await list(ref), ['a']);
});

test('shared mounts of one directory are one overlay and disappear with the last user', async () => {
  await using fixture = await cache();
  const refs = fixture.cache;
  await using base = await step(refs, undefined, 'base');
  await using mutable = await refs.newMutable(base, { retain: true });
  const one = await mutable.mount(false, { shared: true });
  const two = await mutable.mount(true, { shared: true });
  withMounted(one.mounts, (dir) => writeFileSync(join(dir, 'seen'), 'by both'));
  withMounted(two.mounts, (dir) => {
    assert.equal(readFileSync(join(dir, 'seen'), 'utf8'), 'by both');
    assert.throws(() => writeFileSync(join(dir, 'x'), ''), /EROFS/);
  });
  assert.equal(mountsUnder(fixture.root).length, 1);
  await one.release();
  await one.release();
  assert.equal(mountsUnder(fixture.root).length, 1);
  await two.release();
  assert.deepEqual(mountsUnder(fixture.root), []);
});
