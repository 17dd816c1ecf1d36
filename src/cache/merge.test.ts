import assert from 'node:assert/strict';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Code, hasCode } from '../base/errors.ts';
import { countedLayerJobs, openTestCache } from '../testing/cache.ts';
import { lsetxattr } from '../sys/xattr.ts';
import { openTestStore, temporaryRoot, temporaryStore } from '../testing/store.ts';
import { describeTree, inTree, shellLayer, treeOf } from '../testing/trees.ts';
import type { BlobProvider, ImmutableRef, RefManager } from './ref.ts';

const SNAPSHOTTERS = ['overlayfs', 'native'];
const GZIP = { type: 'gzip', force: false } as const;

/** cap_net_raw, as setcap writes it. */
const CAPABILITIES = Buffer.from('0100000200200000000000000000000000000000', 'hex');

async function cache(snapshotter?: string) {
  const fixture = await temporaryStore(snapshotter);
  const jobs = countedLayerJobs(fixture.store);
  const refs = openTestCache(fixture.store, jobs);
  return { ...fixture, jobs, refs, [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose]() };
}

type Fixture = Awaited<ReturnType<typeof cache>>;

/** Layers on top of one another, one for each script. */
async function stack(refs: RefManager, ...scripts: string[]): Promise<ImmutableRef> {
  let top: ImmutableRef | null = null;
  for (const script of scripts) {
    const next: ImmutableRef = await shellLayer(refs, top, script);
    await top?.release();
    top = next;
  }
  return top!;
}

/** The tree that another daemon unpacks from the ref's layers. */
async function unpackedTree(from: Fixture, ref: ImmutableRef, snapshotter: string): Promise<string[]> {
  await using other = await cache(snapshotter);
  const descriptors = await ref.ensureBlobs({ compression: GZIP, lease: from.lease });
  const provider: BlobProvider = {
    open: (d, offset, { signal }) => from.content.read(d.digest, { offset, signal }),
  };
  let top: ImmutableRef | undefined;
  for (const descriptor of descriptors) top = await other.refs.getByBlob(descriptor, top, { provider });
  return top ? await treeOf(top) : [];
}

/** What a user of the ref sees is what its layers unpack to. */
async function assertConsistent(fixture: Fixture, ref: ImmutableRef, snapshotter: string): Promise<void> {
  const tree = await treeOf(ref);
  assert.deepEqual(tree, await unpackedTree(fixture, ref, snapshotter));
  await using child = await shellLayer(fixture.refs, ref, 'true');
  assert.deepEqual(await treeOf(child), tree);
}

const names = (ref: ImmutableRef): Promise<string[]> =>
  inTree(ref, (dir) => readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort());

for (const snapshotter of SNAPSHOTTERS) {
  test(`${snapshotter}: a merge stacks layers, later ones win, deletions reach below`, async () => {
    await using fixture = await cache(snapshotter);
    const { refs } = fixture;
    const a = await stack(refs, 'mkdir -m 700 d; echo a > d/f; echo a > both; echo a > gone', 'echo 2 > a2');
    const b = await shellLayer(
      refs,
      await stack(refs, 'mkdir -m 751 d; chown 7:8 d; echo b > d/g; echo b > both; touch gone tmp'),
      'rm gone tmp; touch -d @1000 d/g d',
      (dir) => lsetxattr(join(dir, 'd/g'), 'security.capability', CAPABILITIES),
    );
    const merged = refs.merge([a, b]);
    assert.deepEqual(await names(merged), ['a2', 'both', 'd', 'd/f', 'd/g']);
    await inTree(merged, (dir) => {
      assert.equal(readFileSync(join(dir, 'both'), 'utf8'), 'b\n');
      const stat = lstatSync(join(dir, 'd'));
      assert.deepEqual([stat.mode & 0o777, stat.uid, stat.mtimeMs], [0o751, 7, 1_000_000]);
    });
    assert.deepEqual(await names(refs.merge([b, a])), ['a2', 'both', 'd', 'd/f', 'd/g', 'gone']);
    await assertConsistent(fixture, merged, snapshotter);
  });

  test(`${snapshotter}: kinds of files replace one another`, async () => {
    await using fixture = await cache(snapshotter);
    const { refs } = fixture;
    const a = await stack(
      refs,
      'mkdir -p dir/sub x; echo 1 > dir/sub/f; echo f > file; ln -s dir link; mkfifo fifo; mknod dev c 1 3',
      'rm -r dir; echo now > dir; rm file; mkdir file; echo in > file/in; rm link; mkdir -p link/sub',
    );
    const b = await stack(
      refs,
      'mkdir dir; echo new > dir/new; mkdir file; ln -s /elsewhere link; ln -s x y; mknod dev c 1 5; touch fifo',
      'rm -r file; rm y; mkdir y; touch y/z',
    );
    for (const parts of [
      [a, b],
      [b, a],
      [a, b, a],
      [b, b],
    ])
      await assertConsistent(fixture, refs.merge(parts), snapshotter);
    await inTree(refs.merge([a, b]), (dir) => {
      assert.deepEqual(readdirSync(join(dir, 'dir')), ['new']);
      assert.equal(existsSync(join(dir, 'file')), false);
      assert.ok(lstatSync(join(dir, 'link')).isSymbolicLink());
    });
  });

  test(`${snapshotter}: files are linked, not copied, and stay apart when one changes`, async () => {
    await using fixture = await cache(snapshotter);
    const { refs, store } = fixture;
    const a = await stack(refs, 'echo a > base');
    const b = await stack(
      refs,
      'head -c 1000000 /dev/zero > big; ln big again; ln -s big soft; mkfifo fifo; mkdir dir; echo x > dir/f',
    );
    const merged = refs.merge([a, b], { description: 'both' });
    assert.equal(await merged.size(), 0);
    await merged.extract();
    const inode = (ref: ImmutableRef, name: string) =>
      inTree(ref, (dir) => lstatSync(join(dir, name), { bigint: true }));
    const [big, again] = [await inode(merged, 'big'), await inode(merged, 'again')];
    assert.equal(big.ino, again.ino);
    const layer = store.snapshots.layout(b.id);
    if (layer) assert.equal(big.ino, lstatSync(join(layer.upperDir, 'big'), { bigint: true }).ino);
    assert.equal((await inode(merged, 'fifo')).nlink, 1n);
    assert.ok((await merged.size()) < 100_000, `${await merged.size()}`);
    const usage = (await refs.diskUsage()).find(({ id }) => id === merged.id);
    assert.deepEqual([usage?.description, usage?.parents], ['both', [a.id, b.id]]);
    assert.equal(usage?.size, await merged.size());
    const child = await shellLayer(refs, merged, 'echo changed > big; chmod 600 dir/f');
    assert.equal((await inode(child, 'big')).size, 8n);
    assert.deepEqual(
      [(await inode(merged, 'big')).size, (await inode(b, 'again')).size],
      [1000000n, 1000000n],
    );
    assert.equal(Number((await inode(b, 'dir/f')).mode & 0o777n), 0o644);
    await assertConsistent(fixture, merged, snapshotter);
    await assertConsistent(fixture, child, snapshotter);
  });

  test(`${snapshotter}: a merge is a base for layers, merges and diffs`, async () => {
    await using fixture = await cache(snapshotter);
    const { refs, lease } = fixture;
    const [a, b, c] = [
      await stack(refs, 'echo a > a', 'echo 2 > a2'),
      await stack(refs, 'echo b > b'),
      await stack(refs, 'echo c > c; echo c > a'),
    ];
    const inner = refs.merge([a, b]);
    const top = await shellLayer(refs, inner, 'rm a2; echo top > b');
    const outer = refs.merge([inner, c, top]);
    assert.equal(outer.layerChain().length, 3 + 1 + 4);
    assert.deepEqual(await names(outer), ['a', 'b', 'c']);
    await assertConsistent(fixture, outer, snapshotter);
    const blobs = async (ref: ImmutableRef) =>
      (await ref.ensureBlobs({ compression: GZIP, lease })).map((d) => d.digest);
    assert.deepEqual(await blobs(outer), [
      ...(await blobs(inner)),
      ...(await blobs(c)),
      ...(await blobs(top)),
    ]);
    const undone = refs.diff(inner, top);
    assert.deepEqual(await blobs(undone), (await blobs(top)).slice(-1));
    assert.deepEqual(await names(undone), ['b']);
    assert.deepEqual(await names(refs.merge([inner, undone])), ['a', 'b']);
    assert.equal(refs.merge([outer]).id, outer.id);
  });

  test(`${snapshotter}: diffs reuse layers where they can and find deletions where not`, async () => {
    await using fixture = await cache(snapshotter);
    const { refs, jobs, lease } = fixture;
    const base = await stack(refs, 'mkdir d; echo 1 > d/old; echo 1 > d/kept; echo 1 > x');
    const one = await shellLayer(refs, base, 'rm d/old; echo n > d/new');
    const two = await shellLayer(refs, one, 'echo m > more; rm x');
    const other = await stack(refs, 'mkdir d; echo 1 > d/kept; echo o > o; ln o p');
    const blobs = async (ref: ImmutableRef) =>
      (await ref.ensureBlobs({ compression: GZIP, lease })).map((d) => d.digest);
    const layers = await blobs(two);
    const made = jobs.calls.diff;
    assert.deepEqual(await blobs(refs.diff(base, one)), [layers[1]]);
    assert.deepEqual(await blobs(refs.diff(base, two)), layers.slice(1));
    assert.equal(jobs.calls.diff, made);
    for (const [lower, upper] of [
      [base, one],
      [base, two],
      [base, other],
      [two, base],
      [one, undefined],
      [refs.diff(base, two), other],
      [refs.merge([base, other]), two],
    ] as const) {
      const diff = refs.diff(lower, upper);
      await assertConsistent(fixture, diff, snapshotter);
      const applied = refs.merge([lower, diff]);
      await assertConsistent(fixture, applied, snapshotter);
      assert.deepEqual(await names(applied), upper ? await names(upper) : []);
    }
    assert.deepEqual(await names(refs.diff(one, undefined)), []);
    assert.deepEqual(await names(refs.diff(base, other)), ['d', 'd/kept', 'o', 'p']);
  });

  test(`${snapshotter}: random layers, merges and diffs unpack to what they show`, async () => {
    await using fixture = await cache(snapshotter);
    const { refs } = fixture;
    const random = seeded(snapshotter.length);
    const pool: ImmutableRef[] = [await stack(refs, 'mkdir a; touch b')];
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
    for (let i = 0; i < (snapshotter === 'native' ? 6 : 12); i++) {
      const kind = pick(['layer', 'layer', 'merge', 'diff'] as const);
      if (kind === 'layer')
        pool.push(await shellLayer(refs, random() < 0.3 ? null : pick(pool), randomScript(random)));
      else if (kind === 'merge') pool.push(refs.merge([pick(pool), pick(pool), pick(pool)]));
      else {
        const [lower, upper] = [pick(pool), random() < 0.1 ? undefined : pick(pool)];
        if (lower !== upper) pool.push(refs.diff(lower, upper));
      }
    }
    for (const ref of pool) await assertConsistent(fixture, ref, snapshotter);
  });
}

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

/** Changes few paths often, so that they meet. */
function randomScript(random: () => number): string {
  const lines = Array.from({ length: 6 }, () => {
    const part = (): string => 'abc'[Math.floor(random() * 3)]!;
    const parts = [part(), part(), part()].slice(Math.floor(random() * 3));
    const path = parts.join('/');
    const clear = parts
      .slice(0, -1)
      .map((_, i) => parts.slice(0, i + 1).join('/'))
      .map((dir) => `[ -d ${dir} ] && [ ! -L ${dir} ] || { rm -rf ${dir}; mkdir ${dir}; }; `)
      .join('');
    const act = [
      `rm -rf ${path}`,
      `rm -rf ${path}; mkdir ${path}; echo ${part()} > ${path}/${part()}`,
      `rm -rf ${path}; echo ${Math.floor(random() * 99)} > ${path}`,
      `rm -rf ${path}; ln -s ${part()} ${path}`,
      `[ -L ${path} ] || [ ! -e ${path} ] || chmod ${['700', '755'][Math.floor(random() * 2)]} ${path}`,
    ][Math.floor(random() * 5)];
    return clear + act;
  });
  return lines.join('\n');
}

test('overlayfs: a directory that changed itself, above one that is replaced by one of the same kind', async () => {
  await using fixture = await cache('overlayfs');
  const { refs } = fixture;
  const base = await stack(refs, 'mkdir -p d/sub/old; touch d/sub/old/f d/sub/g');
  const changed = await shellLayer(refs, base, 'rm -r d/sub; mkdir d/sub; touch d/sub/new; chmod 700 d');
  const diff = refs.diff(base, changed);
  assert.deepEqual(await names(diff), ['d', 'd/sub', 'd/sub/new']);
  await assertConsistent(fixture, refs.merge([base, diff]), 'overlayfs');
});

test('a merge of images is exported without a download or an unpacking', async () => {
  await using source = await cache();
  await using fixture = await cache();
  const { refs, jobs, lease } = fixture;
  let opened = 0;
  const pulled = async (...scripts: string[]): Promise<ImmutableRef> => {
    const image = await stack(source.refs, ...scripts);
    const provider: BlobProvider = {
      open: (d, offset, { signal }) => {
        opened++;
        return source.content.read(d.digest, { offset, signal });
      },
    };
    let top: ImmutableRef | undefined;
    for (const d of await image.ensureBlobs({ compression: GZIP, lease: source.lease }))
      top = await refs.getByBlob(d, top, { provider });
    return top!;
  };
  const [a, b] = [await pulled('echo a > a', 'echo 2 > a2'), await pulled('echo b > b')];
  const merged = refs.merge([a, b]);
  const step = refs.diff(merged, refs.merge([a, b, b]));
  const descriptors = await merged.ensureBlobs({ compression: GZIP, lease, create: false });
  assert.deepEqual(
    descriptors.map((d) => d.digest),
    [...a.layerChain(), ...b.layerChain()].map((l) => l.blob),
  );
  assert.deepEqual([...merged.providers().keys()].length, 3);
  assert.equal(opened, 0);
  const calls = { ...jobs.calls };
  assert.deepEqual(calls, { apply: 0, settle: 0, diff: 0, convert: 0, merge: 0 });
  const events: string[] = [];
  const progress = {
    download: () => {},
    extract: () => {},
    combine: (action: string, id: string, done: boolean) => void events.push(`${action} ${id} ${done}`),
  };
  const [one, two] = await Promise.all([merged.extract({ progress }), merged.extract()]);
  assert.deepEqual([one, two, opened, jobs.calls.merge], [undefined, undefined, 3, 1]);
  assert.deepEqual(events, ['merging merging false', 'merging merging true']);
  assert.deepEqual(await names(step), []);
});

test('overlayfs: a stack is the base of the merge, and marks are made only where they hide something', async () => {
  await using fixture = await cache('overlayfs');
  const { refs, store } = fixture;
  const a = await stack(refs, 'mkdir d; touch d/x d/y', 'touch f');
  const b = await stack(refs, 'mkdir d; touch d/x d/never f', 'rm d/x d/never; rm f; mkdir f; touch f/in');
  const merged = refs.merge([a, b]);
  await merged.extract();
  const { upperDir, lowerDirs } = store.snapshots.layout(merged.id)!;
  assert.equal(store.snapshots.stat(merged.id)?.parent, a.id);
  assert.equal(lowerDirs.length, 2);
  const lines = describeTree(upperDir).map((line) => line.replace(/ (\d+) \d+ \d+ \d* /, ' $1 '));
  assert.deepEqual(lines, ['d 40755 0:0', 'd/x 20000 0:0', 'f 40755 0:0', 'f/in 100644 ']);
  const again = refs.merge([a, b, await stack(refs, 'mkdir d', 'rm -r d; mkdir d')]);
  await again.extract();
  const opaque = describeTree(store.snapshots.layout(again.id)!.upperDir).filter((l) => l.includes('opaque'));
  assert.equal(opaque.length, 0);
});

test('a merge outlives a restart, and half of one does not', async () => {
  await using root = temporaryRoot();
  const store = openTestStore(root.path);
  const jobs = countedLayerJobs(store);
  const { merge } = jobs;
  const refs = openTestCache(store, jobs);
  const merged = refs.merge([await stack(refs, 'touch a', 'touch b'), await stack(refs, 'touch c')]);
  const diff = refs.diff(merged, undefined, { description: 'all gone' });
  const before = store.snapshots.rows.options.db.all('SELECT * FROM snapshots').length;
  jobs.merge = async (input, options) => {
    await merge(input, options);
    throw new Error('disk on fire');
  };
  await assert.rejects(merged.extract(), /disk on fire/);
  await store.gc();
  assert.equal(store.snapshots.rows.options.db.all('SELECT * FROM snapshots').length, before);
  const started = Promise.withResolvers<void>();
  jobs.merge = async (input, options) => {
    await merge(input, options);
    started.resolve();
    return await new Promise(() => {});
  };
  void merged.extract().catch(() => {});
  await started.promise;
  store.db[Symbol.dispose](); // no close: the process is gone

  await using again = openTestStore(root.path);
  const others = openTestCache(again);
  assert.equal(await again.gc(), 1);
  await again.trashEmptied();
  assert.equal(readdirSync(again.layout.snapshots).length, before);
  await using ref = await others.get(merged.id);
  assert.deepEqual(await names(ref), ['a', 'b', 'c']);
  await using nothing = await others.get(diff.id);
  assert.deepEqual(await names(nothing), []);
  assert.equal(nothing.record.description, 'all gone');
});

test('an abort leaves nothing behind, and the next use makes the tree', async () => {
  await using fixture = await cache();
  const { refs, store, jobs } = fixture;
  const merged = refs.merge([await stack(refs, 'touch a'), await stack(refs, 'touch c')]);
  const abort = new AbortController();
  const waits = merged.extract({ signal: abort.signal });
  abort.abort();
  await assert.rejects(waits, /abort/i);
  assert.deepEqual(await names(merged), ['a', 'c']);
  assert.ok(jobs.calls.merge >= 1);
  await store.gc();
  const active = "SELECT count(*) AS n FROM snapshots WHERE kind = 'active'";
  assert.equal(store.db.get<{ n: number }>(active)!.n, 0);
});

test('what a merge is made from stays as long as it does', async () => {
  await using fixture = await cache();
  const { refs, store } = fixture;
  const parts = [await stack(refs, 'touch a', 'touch a2'), await stack(refs, 'touch b')];
  const merged = refs.merge(parts);
  const diff = refs.diff(parts[0]!, merged);
  await diff.extract();
  for (const ref of [...parts, merged]) await ref.release();
  const prune = async () => {
    const gone: string[] = [];
    for await (const { id } of refs.prune([{ all: true }])) gone.push(id);
    return gone;
  };
  assert.deepEqual(await prune(), []);
  const ids = [diff.id, merged.id, ...parts.map(({ id }) => id)];
  await diff.release();
  const gone = await prune();
  assert.equal(gone.length, 5);
  assert.equal(gone[0], diff.id);
  for (const id of ids) assert.ok(gone.includes(id));
  assert.deepEqual(
    store.leases.list().map(({ id }) => id),
    [fixture.lease],
  );
  assert.deepEqual(store.db.all('SELECT * FROM record_sources'), []);
  await store.trashEmptied();
  assert.deepEqual(readdirSync(store.layout.snapshots), []);
});

test('a record without one of its sources is dropped', async () => {
  await using root = temporaryRoot();
  let id = '';
  {
    await using store = openTestStore(root.path);
    const refs = openTestCache(store);
    const [a, b] = [await stack(refs, 'touch a'), await stack(refs, 'touch b')];
    const merged = refs.merge([a, b]);
    id = merged.id;
    for (const ref of [a, b, merged]) await ref.release();
    refs.core.removeRow(b.id);
  }
  await using store = openTestStore(root.path);
  const refs = openTestCache(store);
  await assert.rejects(refs.get(id), (e) => hasCode(e, Code.notFound));
  assert.equal(refs.metadata(id), undefined);
});

test('merges of merges that grow without end are refused', async () => {
  await using fixture = await cache();
  const { refs } = fixture;
  let ref = await stack(fixture.refs, 'touch a');
  for (let i = 0; i < 13; i++) ref = refs.merge([ref, ref]);
  assert.equal(ref.layerChain().length, 8192);
  assert.throws(
    () => refs.merge([ref, ref]),
    (e) => hasCode(e, Code.invalidArgument),
  );
});
