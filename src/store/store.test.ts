import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestHex, digestOf } from '../base/digest.ts';
import { Code, hasCode } from '../base/errors.ts';
import { createLogger, silentLogger } from '../base/log.ts';
import { mountAll } from '../sys/mount.ts';
import { mountsUnder } from '../sys/mountinfo.ts';
import { contentContract } from '../testing/contracts/content.ts';
import { leaseContract } from '../testing/contracts/lease.ts';
import { snapshotContract, withMounted } from '../testing/contracts/snapshot.ts';
import { openTestStore, temporaryRoot, temporaryStore } from '../testing/store.ts';
import { Database } from './database.ts';
import { openStore } from './store.ts';

contentContract('local content', () => temporaryStore());
leaseContract('database leases', () => temporaryStore());
for (const kind of ['overlayfs', 'native']) snapshotContract(kind, () => temporaryStore(kind));

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('a snapshot of 127 layers mounts and shows them all', async () => {
  await using fixture = await temporaryStore();
  const { snapshots, lease, leases } = fixture;
  let parent: string | undefined;
  for (let i = 0; i < 127; i++) {
    await snapshots.prepare(`p${i}`, parent, { lease });
    withMounted(snapshots.mounts(`p${i}`).slice(0, i === 0 ? 1 : 0), () => {});
    const layer = snapshots.layout(`p${i}`)!;
    writeFileSync(join(layer.upperDir, `file${i}`), '');
    leases.add(lease, { kind: 'snapshot', id: `c${i}` });
    snapshots.commit((parent = `c${i}`), `p${i}`);
  }
  withMounted(snapshots.mounts('c126'), (dir) => assert.equal(readdirSync(dir).length, 127));
  await snapshots.prepare('top', parent, { lease });
  withMounted(snapshots.mounts('top'), (dir) => {
    writeFileSync(join(dir, 'new'), '');
    assert.equal(readdirSync(dir).length, 128);
  });
});

test('a single layer is a bind mount, a stack an overlay', async () => {
  await using fixture = await temporaryStore();
  const { snapshots, lease, leases } = fixture;
  await snapshots.prepare('a', undefined, { lease });
  assert.deepEqual(
    snapshots.mounts('a').map((m) => [m.type, m.options]),
    [['bind', ['rw', 'rbind']]],
  );
  leases.add(lease, { kind: 'snapshot', id: 'A' });
  snapshots.commit('A', 'a');
  assert.deepEqual(
    snapshots.mounts('A').map((m) => [m.type, m.options]),
    [['bind', ['ro', 'rbind']]],
  );
  await snapshots.prepare('b', 'A', { lease });
  const [mount] = snapshots.mounts('b');
  assert.equal(mount?.type, 'overlay');
  for (const option of ['workdir=', 'upperdir=', 'lowerdir='])
    assert.ok(mount?.options.some((o) => o.startsWith(option)));
});

test('snapshotter choice: auto falls back aloud, others are refused', async () => {
  await using root = temporaryRoot();
  // An overlay cannot be the upper side of another one.
  for (const dir of ['lower', 'upper', 'work', 'root']) mkdirSync(join(root.path, dir));
  const at = (name: string): string => join(root.path, name);
  const options = [`lowerdir=${at('lower')}`, `upperdir=${at('upper')}`, `workdir=${at('work')}`];
  mountAll([{ type: 'overlay', source: 'overlay', options }], at('root'));
  {
    await using store = openTestStore(at('root'), 'auto');
    assert.equal(store.snapshots.name, 'native');
    assert.match(store.warning ?? '', /overlayfs does not work on .*native/);
  }
  assert.throws(
    () => openTestStore(at('root'), 'overlayfs'),
    (e) => hasCode(e, Code.failedPrecondition),
  );
  await using other = temporaryRoot();
  await using store = openTestStore(other.path, 'auto');
  assert.equal(store.snapshots.name, 'overlayfs');
  assert.equal(store.warning, undefined);
  assert.throws(
    () => openTestStore(other.path, 'zfs'),
    (e) => hasCode(e, Code.unimplemented),
  );
});

test('the next start sweeps what a crash left', async () => {
  await using root = temporaryRoot();
  const store = openTestStore(root.path);
  const { layout, snapshots, content, leases } = store;
  leases.create({ id: 'kept' });
  const kept = await content.writeBlob(bytes('kept'), { lease: 'kept' });
  const work = leases.hold();
  const lost = await content.writeBlob(bytes('lost'), { lease: work.id });
  await snapshots.prepare('half', undefined, { lease: work.id });
  const halfDir = snapshots.layout('half')!.upperDir;
  await snapshots.prepare('whole', undefined, { lease: 'kept' });
  writeFileSync(content.tmpPath('partial'), 'x');
  const mounted = join(layout.dir, 'mounted');
  mkdirSync(mounted);
  mountAll([{ type: 'tmpfs', source: 'tmpfs', options: [] }], mounted);
  const trial = join(layout.dir, 'probe-x');
  mkdirSync(join(trial, 'm'), { recursive: true });
  // A publication cut between rename and row, and a removal cut between commit and rename.
  const orphan = join(layout.content, 'sha256', 'f'.repeat(64));
  writeFileSync(orphan, 'x');
  const insert = 'INSERT INTO doomed VALUES (?)';
  store.db.run(insert, `content/sha256/${'f'.repeat(64)}`);
  store.db.run(insert, `content/sha256/${digestHex(kept.digest)}`);
  store.db[Symbol.dispose](); // no close: the process is gone

  await using again = openTestStore(root.path);
  // What the start tries by itself is unmounted in the background.
  const left = mountsUnder(layout.dir).filter((mount) => !/\/probe-[^x/]/.test(mount.mountPoint));
  assert.deepEqual(left, []);
  assert.equal(existsSync(orphan), false);
  assert.equal(existsSync(trial), false);
  assert.deepEqual(readdirSync(layout.tmp), []);
  assert.deepEqual(
    again.leases.list().map((l) => l.id),
    ['kept'],
  );
  assert.equal(await again.gc(), 2);
  await again.trashEmptied();
  assert.deepEqual(readdirSync(layout.trash), []);
  assert.equal(again.content.has(lost.digest), false);
  assert.equal(existsSync(halfDir), false);
  assert.equal(Buffer.from(await again.content.readAll(kept.digest)).toString(), 'kept');
  assert.ok(again.snapshots.stat('whole'));
});

test('a directory left under a number is not reused', async () => {
  await using fixture = await temporaryStore();
  const { store, snapshots, lease } = fixture;
  const stale = join(store.layout.snapshots, '1', 'fs', 'stale');
  mkdirSync(stale, { recursive: true });
  await snapshots.prepare('a', undefined, { lease });
  assert.deepEqual(readdirSync(snapshots.layout('a')!.upperDir), []);
});

test('a damaged blob is dropped and can be written again', async () => {
  await using root = temporaryRoot();
  const lines: string[] = [];
  const log = createLogger({ level: 'info', format: 'text', write: (line) => void lines.push(line) });
  await using store = openTestStore(root.path, 'overlayfs', log);
  const lease = store.leases.hold().id;
  const data = bytes('some content');
  const digest = digestOf(data);
  const damage: ((path: string) => void)[] = [
    (path) => truncateSync(path, 3),
    (path) => rmSync(path),
    (path) => writeFileSync(path, 'same length!'),
  ];
  for (const spoil of damage) {
    assert.equal((await store.content.writeBlob(data, { lease })).alreadyExists, false);
    spoil(store.content.path(digest));
    if (spoil === damage[2]) assert.equal(await store.content.verify(digest), false);
    else
      assert.throws(
        () => store.content.path(digest),
        (e) => hasCode(e, Code.notFound),
      );
    assert.equal(store.content.has(digest), false);
  }
  assert.equal(lines.filter((line) => line.includes('dropping damaged blob')).length, 3);
});

test('a damaged database is put aside, a newer one refused', async () => {
  await using root = temporaryRoot();
  {
    await using store = openTestStore(root.path);
    await store.content.writeBlob(bytes('x'), { lease: store.leases.create({ id: 'l' }).id });
  }
  const path = join(root.path, 'buildkit-ts', 'store.db');
  writeFileSync(path, Buffer.alloc(8192, 7));
  {
    await using store = openTestStore(root.path);
    assert.deepEqual(store.leases.list(), []);
    assert.deepEqual(readdirSync(join(store.layout.content, 'sha256')), []);
  }
  assert.ok(existsSync(`${path}.damaged`));
  const db = new Database(path);
  db.run("UPDATE schema SET version = 99 WHERE component = 'store'");
  db[Symbol.dispose]();
  assert.throws(() => openTestStore(root.path), /written by a newer version/);
});

test('a full disk leaves nothing of the blob behind', async () => {
  await using root = temporaryRoot();
  mountAll([{ type: 'tmpfs', source: 'tmpfs', options: ['size=4m'] }], root.path);
  const store = openTestStore(root.path);
  const lease = store.leases.hold().id;
  const chunk = Buffer.alloc(1 << 20, 1);
  for (let round = 0; round < 2; round++) {
    await using writer = await store.content.writer({ ref: 'big' });
    assert.equal(writer.offset, 0);
    await assert.rejects(async () => {
      for (let i = 0; i < 10; i++) await writer.write(chunk);
    }, /ENOSPC/);
  }
  assert.deepEqual(readdirSync(store.layout.tmp), []);
  await store.content.writeBlob(chunk, { lease });
  await store.close();
});

test('a crash between the steps of a publication or a removal leaves no file behind', async () => {
  await using root = temporaryRoot();
  const first = openTestStore(root.path);
  const lease = first.leases.create({ id: 'kept' }).id;
  const transaction = first.db.transaction.bind(first.db);
  let calls = 0;
  // The first two look whether the blob is there, the third writes the row.
  first.db.transaction = (work) => {
    if (++calls < 3) return transaction(work);
    first.db[Symbol.dispose]();
    throw new Error('crash');
  };
  await assert.rejects(first.content.writeBlob(bytes('new'), { lease }));
  const blobs = join(first.layout.content, 'sha256');
  assert.equal(readdirSync(blobs).length, 1);

  const second = openTestStore(root.path);
  assert.deepEqual(readdirSync(blobs), []);
  await second.snapshots.prepare('s', undefined, { lease });
  second.snapshots.rows.options.trash.take = () => {
    throw new Error('crash');
  };
  assert.throws(() => second.snapshots.remove('s'), /crash/);
  second.db[Symbol.dispose]();
  assert.equal(readdirSync(second.layout.snapshots).length, 1);
  mkdirSync(join(second.layout.snapshots, '9', 'fs'), { recursive: true });
  const db = new Database(second.layout.database);
  db.run("INSERT INTO doomed VALUES ('snapshots/9')");
  db[Symbol.dispose]();

  await using third = openTestStore(root.path);
  assert.deepEqual(readdirSync(third.layout.snapshots), []);
});

test('a blob whose lease is gone is not published', async () => {
  await using fixture = await temporaryStore();
  const { content, store } = fixture;
  await assert.rejects(content.writeBlob(bytes('late'), { lease: 'unknown' }), (e) =>
    hasCode(e, Code.notFound),
  );
  assert.deepEqual(readdirSync(join(store.layout.content, 'sha256')), []);
  assert.equal((await content.writeBlob(bytes('late'), { lease: fixture.lease })).alreadyExists, false);
});

test('a start after an orderly stop has nothing to delete', async () => {
  await using root = temporaryRoot();
  {
    await using store = openTestStore(root.path);
    mkdirSync(join(store.layout.tmp, 'mounts', 'm1'), { recursive: true });
  }
  const jobs: string[] = [];
  const run = async (name: string): Promise<never> => {
    jobs.push(name);
    throw new Error('no worker is needed');
  };
  await using store = openStore({ root: root.path, snapshotter: 'auto', jobs: { run }, log: silentLogger });
  assert.deepEqual(readdirSync(store.layout.tmp), []);
  const { digest } = await store.content.writeBlob(bytes('x'));
  assert.equal(await store.gc(), 1);
  await store.trashEmptied();
  assert.equal(store.content.has(digest), false);
  assert.deepEqual(readdirSync(store.layout.trash), []);
  assert.deepEqual(jobs, []);
});
