import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Digest } from '../base/digest.ts';
import { silentLogger } from '../base/log.ts';
import { SqlKeyStore } from '../cache/keystore.ts';
import { openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { inlineJobs, openTestStore, temporaryRoot } from '../testing/store.ts';
import { realFiles, type StoreFiles } from '../store/files.ts';
import { storeJobs } from '../store/jobs.ts';
import { openStore, type Store } from '../store/store.ts';
import { Fsck } from './fsck.ts';

const WRITER = new URL('../testing/fault-writer.ts', import.meta.url).pathname;

/** Renames, syncs, new directories and commits of the writer; the point before one is the point after the last. */
const POINTS = 60;

async function problems(store: Store): Promise<string[]> {
  const keys = new SqlKeyStore(store.db);
  const refs = openTestCache(store);
  const fsck = new Fsck({ store, refs, keys, indexDir: join(store.layout.dir, 'contenthash') });
  const found: string[] = [];
  const { signal } = new AbortController();
  for await (const { kind, id, problem } of fsck.run({ deep: true, repair: false, signal }))
    found.push(`${kind} ${id}: ${problem}`);
  return found;
}

/** Runs the writer until it kills itself; gives what it said was done. */
function write(root: string, point: number, when: string): string[] {
  const { stdout, stderr, signal } = spawnSync(process.execPath, [WRITER, root, String(point), when]);
  assert.equal(signal, 'SIGKILL', stderr.toString());
  return stdout.toString().split('\n').slice(0, -1);
}

/** What was said to be done is there after a restart; what was not has left no trace. */
async function checkAfter(root: string, done: readonly string[]): Promise<void> {
  await using store = openTestStore(root);
  const refs = openTestCache(store);
  await store.gc();
  await store.trashEmptied();
  const pruned = done.find((line) => line.startsWith('pruned'))?.split(' ')[1];
  for (const line of done) {
    const [what, id = '', ...names] = line.split(' ');
    if (what === 'blob') assert.ok(await store.content.verify(id as Digest), line);
    if (what === 'gone') assert.equal(refs.metadata(id), undefined, line);
    if (what !== 'record' || id === pruned) continue;
    await using ref = await refs.get(id);
    await using view = await ref.mount(true);
    withMounted(view.mounts, (dir) => {
      for (const name of names) assert.equal(readFileSync(join(dir, name), 'utf8'), name);
    });
  }
  assert.deepEqual(await problems(store), []);
  assert.deepEqual(readdirSync(store.layout.trash), []);
  assert.deepEqual(readdirSync(store.layout.tmp), ['mounts']);
}

test('what the writer of these tests does, without a fault', async () => {
  await using root = temporaryRoot();
  const done = write(root.path, 0, 'before');
  await checkAfter(root.path, done);
  const points = Number(done.at(-1)?.split(' ')[1]);
  assert.ok(points > 40 && points <= POINTS, `${points} points`);
});

for (const when of ['before', 'after'])
  test(`killed ${when} a point where it writes: what was done is there, what was not left no trace`, async () => {
    for (let point = when === 'before' ? 1 : 2; point <= POINTS; point += 2) {
      await using root = temporaryRoot();
      const done = write(root.path, point, when);
      await checkAfter(root.path, done).catch((error: Error) => {
        throw new Error(`point ${point}, after "${done.at(-1)}": ${error.message}`, { cause: error });
      });
    }
  });

class Faults implements StoreFiles {
  /** Calls until the next one fails; Infinity: none does. */
  left = Number.POSITIVE_INFINITY;
  code = 'ENOSPC';

  #count(): void {
    if (this.left-- > 0) return;
    this.left = Number.POSITIVE_INFINITY;
    throw Object.assign(new Error(`${this.code}: injected`), { code: this.code });
  }

  async rename(from: string, to: string): Promise<void> {
    this.#count();
    await realFiles.rename(from, to);
  }
  renameSync(from: string, to: string): void {
    this.#count();
    realFiles.renameSync(from, to);
  }
  async sync(path: string): Promise<void> {
    this.#count();
    await realFiles.sync(path);
  }
  makeDir(path: string, mode: number): void {
    this.#count();
    realFiles.makeDir(path, mode);
  }
}

test('renames, syncs and directories that fail: the caller is told, and nothing half made is seen', async () => {
  await using root = temporaryRoot();
  const files = new Faults();
  const open = () =>
    openStore({
      root: root.path,
      snapshotter: 'overlayfs',
      jobs: inlineJobs(storeJobs),
      log: silentLogger,
      files,
    });
  await using store = open();
  const refs = openTestCache(store);
  const { id: lease } = store.leases.create({ id: 'lasting' });
  const kept: Digest[] = [];
  const works: readonly (() => Promise<unknown>)[] = [
    async () => {
      const { digest } = await store.content.writeBlob(Buffer.from(`blob ${kept.length}`), { lease });
      kept.push(digest);
    },
    async () => {
      const mutable = await refs.newMutable(undefined);
      const ref = await mutable.commit();
      await ref.release();
    },
    async () => {
      await store.snapshots.prepare('x', undefined, { lease });
      store.leases.drop(lease, { kind: 'snapshot', id: 'x' });
      await store.gc();
    },
  ];
  let failed = 0;
  for (const code of ['ENOSPC', 'EIO'])
    for (const work of works)
      for (let calls = 0; calls < 4; calls++) {
        files.code = code;
        files.left = calls;
        const failure = await work().then(
          () => undefined,
          (error: Error) => error,
        );
        if (failure) {
          failed++;
          assert.match(failure.message, /injected/);
        }
        files.left = Number.POSITIVE_INFINITY;
        store.leases.drop(lease, { kind: 'snapshot', id: 'x' });
        await store.gc();
        assert.deepEqual(await problems(store), [], `${code} ${works.indexOf(work)} ${calls}`);
        await work();
      }
  assert.ok(failed > 6, `${failed} failures`);
  for (const digest of kept) assert.ok(await store.content.verify(digest));
  await store.gc();
  await store.trashEmptied();
  for (const name of readdirSync(store.layout.trash)) assert.fail(name);
});

test('a database without room: what was committed stays, what was not is not seen', async () => {
  await using root = temporaryRoot();
  await using store = openTestStore(root.path);
  const { id: lease } = store.leases.create({ id: 'lasting' });
  const { page_count } = store.db.get<{ page_count: number }>('PRAGMA page_count')!;
  store.db.get(`PRAGMA max_page_count = ${page_count + 8}`);
  const kept: Digest[] = [];
  let failure: unknown;
  for (let i = 0; !failure && i < 1000; i++) {
    try {
      const labels = { [`note.${i}`]: 'x'.repeat(500) };
      kept.push((await store.content.writeBlob(Buffer.from(`blob ${i}`), { lease, labels })).digest);
    } catch (error) {
      failure = error;
    }
  }
  assert.match(String(failure), /full/);
  assert.ok(kept.length > 0);
  store.db.get('PRAGMA max_page_count = 1000000');
  assert.deepEqual(await problems(store), []);
  for (const digest of kept) assert.ok(await store.content.verify(digest));
  const file = (digest: string): string => join(store.layout.content, digest.replace(':', '/'));
  assert.ok(kept.every((digest) => existsSync(file(digest))));
  assert.equal(readdirSync(join(store.layout.content, 'sha256')).length, kept.length);
});
