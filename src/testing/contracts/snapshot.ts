import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { linkSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Code, hasCode } from '../../base/errors.ts';
import type { Mount } from '../../oci/mount.ts';
import type { Snapshotter } from '../../store/snapshot.ts';
import { detachAll, mountAll } from '../../sys/mount.ts';

export interface SnapshotFixture extends AsyncDisposable {
  readonly snapshots: Snapshotter;
  /** A lease that holds what the test makes. */
  readonly lease: string;
}

/** Mounts at a temporary place for the time of `use`. */
export function withMounted<T>(mounts: readonly Mount[], use: (dir: string) => T): T {
  const dir = mkdtempSync(join(tmpdir(), 'mounted-'));
  try {
    mountAll(mounts, dir);
    try {
      return use(dir);
    } finally {
      detachAll(dir);
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** What every Snapshotter must do. Needs the right to mount. */
export function snapshotContract(name: string, create: () => Promise<SnapshotFixture>): void {
  test(`${name}: layers stack, change and stay apart`, async () => {
    await using fixture = await create();
    const { snapshots, lease } = fixture;
    await snapshots.prepare('a', undefined, { lease });
    withMounted(snapshots.mounts('a'), (dir) => {
      writeFileSync(join(dir, 'kept'), 'one');
      writeFileSync(join(dir, 'gone'), 'x');
      chmodSync(dir, 0o711);
      chownSync(dir, 7, 8);
    });
    snapshots.commit('A', 'a');
    for (const child of ['b', 'c']) await snapshots.prepare(child, 'A', { lease });
    withMounted(snapshots.mounts('b'), (dir) => {
      assert.equal(readFileSync(join(dir, 'kept'), 'utf8'), 'one');
      assert.equal(lstatSync(dir).mode & 0o7777, 0o711);
      assert.equal(lstatSync(dir).uid, 7);
      writeFileSync(join(dir, 'kept'), 'two');
      rmSync(join(dir, 'gone'));
    });
    withMounted(snapshots.mounts('c'), (dir) => assert.deepEqual(readdirSync(dir).sort(), ['gone', 'kept']));
    withMounted(snapshots.mounts('A'), (dir) => {
      assert.equal(readFileSync(join(dir, 'kept'), 'utf8'), 'one');
      assert.throws(() => writeFileSync(join(dir, 'new'), ''), /EROFS|read-only/);
    });
    snapshots.commit('B', 'b');
    withMounted(snapshots.mounts('B'), (dir) => {
      assert.deepEqual(readdirSync(dir), ['kept']);
      assert.throws(() => writeFileSync(join(dir, 'kept'), ''), /EROFS|read-only/);
    });
  });

  test(`${name}: links, owners, modes and times reach the next layer`, async () => {
    await using fixture = await create();
    const { snapshots, lease } = fixture;
    await snapshots.prepare('a', undefined, { lease });
    withMounted(snapshots.mounts('a'), (dir) => {
      writeFileSync(join(dir, 'file'), 'data');
      chownSync(join(dir, 'file'), 11, 12);
      chmodSync(join(dir, 'file'), 0o4750);
      linkSync(join(dir, 'file'), join(dir, 'hard'));
      symlinkSync('/nowhere', join(dir, 'soft'));
      mkdirSync(join(dir, 'sub'), { mode: 0o700 });
    });
    const before = withMounted(snapshots.mounts('a'), (dir) =>
      lstatSync(join(dir, 'file'), { bigint: true }),
    );
    snapshots.commit('A', 'a');
    await snapshots.prepare('b', 'A', { lease });
    withMounted(snapshots.mounts('b'), (dir) => {
      const file = lstatSync(join(dir, 'file'), { bigint: true });
      assert.equal(file.mode, before.mode);
      assert.equal(file.mtimeNs, before.mtimeNs);
      assert.deepEqual([file.uid, file.gid, file.nlink], [11n, 12n, 2n]);
      assert.equal(lstatSync(join(dir, 'hard'), { bigint: true }).ino, file.ino);
      assert.ok(lstatSync(join(dir, 'soft')).isSymbolicLink());
      assert.equal(lstatSync(join(dir, 'sub')).mode & 0o777, 0o700);
    });
  });

  stateTests(name, create);
  rebaseTest(name, create);
}

function rebaseTest(name: string, create: () => Promise<SnapshotFixture>): void {
  test(`${name}: a snapshot made on nothing gets its parent when it is committed`, async () => {
    await using fixture = await create();
    const { snapshots, lease } = fixture;
    await snapshots.prepare('low', undefined, { lease });
    withMounted(snapshots.mounts('low'), (dir) => {
      writeFileSync(join(dir, 'below'), 'one');
      chmodSync(dir, 0o711);
      chownSync(dir, 7, 8);
    });
    await snapshots.prepare('top', undefined, { lease });
    withMounted(snapshots.mounts('top'), (dir) => writeFileSync(join(dir, 'above'), 'two'));
    assert.throws(
      () => snapshots.commit('TOP', 'top', undefined, 'low'),
      (e) => !snapshots.canRebase || hasCode(e, Code.failedPrecondition),
    );
    snapshots.commit('LOW', 'low');
    if (!snapshots.canRebase) {
      assert.throws(() => snapshots.commit('TOP', 'top', undefined, 'LOW'), /whole trees/);
      return;
    }
    snapshots.commit('TOP', 'top', undefined, 'LOW');
    assert.equal(snapshots.stat('TOP')?.parent, 'LOW');
    withMounted(snapshots.mounts('TOP'), (dir) => {
      assert.deepEqual(readdirSync(dir).sort(), ['above', 'below']);
      assert.equal(lstatSync(dir).mode & 0o7777, 0o711);
      assert.equal(lstatSync(dir).uid, 7);
    });
    assert.throws(
      () => snapshots.remove('LOW'),
      (e) => hasCode(e, Code.failedPrecondition),
    );
    await snapshots.prepare('child', 'TOP', { lease });
    assert.throws(
      () => snapshots.commit('CHILD', 'child', undefined, 'LOW'),
      (e) => hasCode(e, Code.failedPrecondition),
    );
  });
}

function stateTests(name: string, create: () => Promise<SnapshotFixture>): void {
  test(`${name}: names, kinds and parents are kept straight`, async () => {
    await using fixture = await create();
    const { snapshots, lease } = fixture;
    await snapshots.prepare('a', undefined, { lease });
    await assert.rejects(snapshots.prepare('a', undefined, { lease }), (e) => hasCode(e, Code.alreadyExists));
    await assert.rejects(snapshots.prepare('x', 'a', { lease }), (e) => hasCode(e, Code.failedPrecondition));
    await assert.rejects(snapshots.prepare('x', 'none', { lease }), (e) => hasCode(e, Code.notFound));
    assert.equal(snapshots.stat('a')?.kind, 'active');
    snapshots.commit('A', 'a');
    assert.equal(snapshots.stat('a'), undefined);
    assert.equal(snapshots.stat('A')?.kind, 'committed');
    assert.throws(
      () => snapshots.commit('A2', 'A'),
      (e) => hasCode(e, Code.failedPrecondition),
    );
    await snapshots.view('v', 'A', { lease });
    assert.equal(snapshots.stat('v')?.parent, 'A');
    withMounted(snapshots.mounts('v'), (dir) =>
      assert.throws(() => writeFileSync(join(dir, 'n'), ''), /EROFS|read-only/),
    );
    assert.throws(
      () => snapshots.remove('A'),
      (e) => hasCode(e, Code.failedPrecondition),
    );
    snapshots.remove('v');
    snapshots.remove('A');
    assert.equal(snapshots.stat('A'), undefined);
    assert.throws(
      () => snapshots.mounts('A'),
      (e) => hasCode(e, Code.notFound),
    );
  });

  test(`${name}: usage counts what a snapshot added`, async () => {
    await using fixture = await create();
    const { snapshots, lease } = fixture;
    await snapshots.prepare('a', undefined, { lease });
    const empty = await snapshots.usage('a');
    withMounted(snapshots.mounts('a'), (dir) => {
      writeFileSync(join(dir, 'big'), Buffer.alloc(100_000, 1));
      linkSync(join(dir, 'big'), join(dir, 'again'));
    });
    const full = await snapshots.usage('a');
    assert.ok(full.size - empty.size >= 100_000 && full.size - empty.size < 130_000, `${full.size}`);
    assert.equal(full.inodes - empty.inodes, 1);
    snapshots.commit('A', 'a');
    assert.deepEqual(await snapshots.usage('A'), full);
  });
}
