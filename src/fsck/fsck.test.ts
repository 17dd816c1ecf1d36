import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Digest } from '../base/digest.ts';
import { SqlKeyStore } from '../cache/keystore.ts';
import type { LocalRefManager } from '../cache/manager.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { temporaryStore } from '../testing/store.ts';
import { Fsck, type Report } from './fsck.ts';

type Held = Awaited<ReturnType<typeof temporaryStore>>;

interface Case {
  readonly held: Held;
  readonly refs: LocalRefManager;
  readonly keys: SqlKeyStore;
  /** Records that stand on one another; all but the last have blobs. */
  readonly ids: readonly string[];
  readonly blob: Digest;
  sql(statement: string): void;
  path(...parts: string[]): string;
}

async function fileOn(refs: LocalRefManager, parent: ImmutableRef | undefined, name: string) {
  const mutable = await refs.newMutable(parent);
  await using view = await mutable.mount(false);
  withMounted(view.mounts, (dir) => writeFileSync(join(dir, name), name));
  return mutable.commit();
}

/** A store with some of everything, nothing in use. */
async function fill(held: Held): Promise<Case> {
  const { store } = held;
  const keys = new SqlKeyStore(store.db);
  const refs = openTestCache(store, undefined, { removed: (id) => keys.releaseResult(id) });
  const below = await fileOn(refs, undefined, 'below');
  const middle = await fileOn(refs, below, 'middle');
  const compression = { type: 'gzip', force: false } as const;
  const [first] = await middle.ensureBlobs({ compression, lease: held.lease });
  await middle.ensureBlobs({ compression: { type: 'zstd', force: true }, lease: held.lease });
  const top = await fileOn(refs, middle, 'top');
  const cache = await refs.newMutable(below, { retain: true });
  const merged = refs.merge([below, top]);
  await merged.extract();
  const all = [below, middle, top, merged];
  for (const [i, ref] of all.entries()) {
    const link = { input: 0, output: 0, digest: 'sha256:00', selector: '' };
    keys.link(`key-${i}`, link, `key-${i + 1}`);
    keys.addRecord({ key: `key-${i + 1}`, resultId: ref.id, createdAt: 1 });
  }
  for (const ref of [...all, cache]) await ref.release();
  store.leases.delete(held.lease);
  await store.gc();
  await store.trashEmptied();
  const path = (...parts: string[]): string => join(store.layout.dir, ...parts);
  mkdirSync(path('contenthash'));
  const ids = [...all, cache].map(({ id }) => id);
  return { held, refs, keys, ids, blob: first!.digest, sql: (text) => void store.db.run(text), path };
}

async function check({ held, refs, keys, path }: Case, repair: boolean): Promise<Report[]> {
  const fsck = new Fsck({ store: held.store, refs, keys, indexDir: path('contenthash') });
  const found: Report[] = [];
  const { signal } = new AbortController();
  for await (const report of fsck.run({ deep: true, repair, signal })) found.push(report);
  return found;
}

/** What is done to the store, and what the check says of it first. */
const DAMAGES: Readonly<Record<string, readonly [(c: Case) => void, RegExp]>> = {
  'a blob with other bytes': [
    ({ path, blob }) => {
      const file = path('content', blob.replace(':', '/'));
      const bytes = readFileSync(file);
      bytes[20]! ^= 1;
      writeFileSync(file, bytes);
    },
    /^damaged blob sha256:\w+: its bytes are those of/,
  ],
  'a blob cut short': [
    ({ path, blob }) => writeFileSync(path('content', blob.replace(':', '/')), 'x'),
    /^damaged blob .*: its file has 1 bytes/,
  ],
  'a blob without a file': [
    ({ path, blob }) => rmSync(path('content', blob.replace(':', '/'))),
    /^damaged blob .*: its file is missing/,
  ],
  'a file without a row': [
    ({ path }) => writeFileSync(path('content/sha256', 'a'.repeat(64)), 'x'),
    /^leftover file content\/sha256\/a+: nothing knows it/,
  ],
  'a file that is no blob': [
    ({ path }) => writeFileSync(path('content/sha256/note'), 'x'),
    /^leftover file content\/sha256\/note/,
  ],
  'a tree that is lost, with a blob': [
    ({ path }) => rmSync(path('snapshots/1'), { recursive: true }),
    /^damaged snapshot \w+: its tree is lost/,
  ],
  'a tree that is lost, without a blob': [
    ({ path }) => rmSync(path('snapshots/3'), { recursive: true }),
    /^damaged record \w+: its tree is lost and it has no blob/,
  ],
  'all trees': [({ path }) => rmSync(path('snapshots'), { recursive: true }), /^damaged record/],
  'a directory without a row': [
    ({ path }) => mkdirSync(path('snapshots/99/fs'), { recursive: true }),
    /^leftover file snapshots\/99/,
  ],
  'a snapshot without its parent': [
    ({ sql }) => sql('UPDATE snapshots SET parent = 99 WHERE id = 2'),
    /^damaged snapshot \w+: its parent is gone/,
  ],
  'a snapshot that nothing keeps': [
    ({ sql }) => sql("INSERT INTO snapshots (name, kind, created_at) VALUES ('x', 'view', 1)"),
    /^leftover snapshot x: nothing keeps it/,
  ],
  'a record without its parent': [
    ({ sql, ids }) => sql(`UPDATE records SET parent = 'gone' WHERE id = '${ids[1]}'`),
    /^damaged record \w+: its parent gone is gone/,
  ],
  'records that stand on each other': [
    ({ sql, ids }) => sql(`UPDATE records SET parent = '${ids[2]}' WHERE id = '${ids[0]}'`),
    /^damaged record \w+: it stands on itself/,
  ],
  'a record that makes no sense': [
    ({ sql, ids }) => sql(`UPDATE records SET urls = '' WHERE id = '${ids[0]}'`),
    /^damaged record \w+: its urls are unreadable/,
  ],
  'records without leases': [({ sql }) => sql('DELETE FROM leases'), /^damaged record \w+: no lease keeps/],
  'leases that hold nothing': [
    ({ sql }) => sql('DELETE FROM lease_resources'),
    /^damaged record \w+: its lease does not keep snapshot/,
  ],
  'a cache directory that is lost': [
    ({ path, held, ids }) => {
      const { id } = held.store.db.get<{ id: number }>(
        'SELECT s.id FROM snapshots s JOIN records r ON r.snapshot = s.name WHERE r.id = ?',
        ids[4]!,
      )!;
      rmSync(path('snapshots', String(id)), { recursive: true });
    },
    /^damaged record \w+: its writable tree is lost/,
  ],
  'a lease of a record that is gone': [
    ({ held }) => held.store.leases.create({ id: 'f'.repeat(32), flat: true }),
    /^leftover lease f+: its record f+ is gone/,
  ],
  'a record row that is gone': [
    ({ sql, ids }) => sql(`DELETE FROM records WHERE id = '${ids[3]}'`),
    /^leftover database record_sources: 2 rows belong to records that are gone/,
  ],
  'a cache key that leads nowhere': [
    ({ keys }) => keys.addRecord({ key: 'key-9', resultId: 'gone', createdAt: 1 }),
    /^leftover key gone: cache keys lead to this record/,
  ],
  'an index without a record': [
    ({ path }) => writeFileSync(path('contenthash/gone.index'), 'x'),
    /^leftover index gone.index: its record is gone/,
  ],
  'an index that is damaged': [
    ({ path, ids }) => writeFileSync(path('contenthash', `${ids[0]}.index`), 'x'),
    /^leftover index \w+.index: it is damaged/,
  ],
};

test('a store that nothing has happened to', async () => {
  await using held = await temporaryStore();
  const made = await fill(held);
  assert.deepEqual(await check(made, false), []);
  assert.equal((await made.refs.diskUsage()).length, 5);
});

for (const [name, [damage, first]] of Object.entries(DAMAGES))
  test(`found and repaired: ${name}`, async () => {
    await using held = await temporaryStore();
    const made = await fill(held);
    damage(made);
    const line = ({ leftover, kind, id, problem }: Report): string =>
      `${leftover ? 'leftover' : 'damaged'} ${kind} ${id}: ${problem}`;
    const found = await check(made, false);
    assert.match(found.map(line)[0] ?? 'nothing', first);
    // Looking changes nothing.
    assert.deepEqual(await check(made, false), found);
    const repaired = await check(made, true);
    assert.deepEqual(
      repaired.filter((report) => !report.repaired),
      [],
    );
    assert.deepEqual(await check(made, true), []);
    // What is left can be used.
    for (const { id, mutable } of await made.refs.diskUsage()) {
      if (mutable) continue;
      await using ref = await made.refs.get(id);
      await using view = await ref.mount(true);
      withMounted(view.mounts, (dir) => assert.equal(readFileSync(join(dir, 'below'), 'utf8'), 'below'));
    }
  });

test('what is in use is left alone', async () => {
  await using held = await temporaryStore();
  const made = await fill(held);
  const { refs } = made;
  await using top = await refs.get(made.ids[2]!);
  await using writable = await refs.newMutable(top);
  const making = refs.newMutable(top);
  assert.deepEqual(await check(made, true), []);
  await using other = await making;
  await using view = await writable.mount(true);
  withMounted(view.mounts, (dir) => assert.equal(readFileSync(join(dir, 'top'), 'utf8'), 'top'));
  assert.notEqual(other.id, writable.id);
});

test('what is collected while the check runs is nothing left over', async () => {
  await using held = await temporaryStore();
  const filled = await fill(held);
  const { content } = held.store;
  const list = content.list.bind(content);
  content.list = async function* () {
    for await (const info of list()) yield info;
    const now = new Date();
    yield {
      digest: `sha256:${'0'.repeat(64)}` as Digest,
      size: 1,
      createdAt: now,
      updatedAt: now,
      labels: {},
    };
  };
  assert.deepEqual(await check(filled, false), []);
});

test('what is referred to by something that waits for collection is nothing left over', async () => {
  await using held = await temporaryStore();
  const filled = await fill(held);
  const { content, leases } = held.store;
  const lease = leases.create();
  const { digest: layer } = await content.writeBlob(Buffer.from('layer'), { lease: lease.id });
  const labels = { 'containerd.io/gc.ref.content.l.0': layer };
  await content.writeBlob(Buffer.from('manifest'), { lease: lease.id, labels });
  leases.delete(lease.id);
  filled.sql(`DELETE FROM gc_queue WHERE id = '${layer}'`); // as the collector does while its manifest is kept
  assert.deepEqual(await check(filled, false), []);
  filled.sql('DELETE FROM gc_queue');
  assert.equal((await check(filled, false)).length, 2);
});
