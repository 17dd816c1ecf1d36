import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { ExecOp, MountType } from '../llb/ops.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Leftover, OpContext } from '../solver/types.ts';
import { openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { temporaryStore } from '../testing/store.ts';
import { treeOf } from '../testing/trees.ts';
import { CacheMounts } from './cache-mounts.ts';
import { type PreparedMounts, prepareMounts } from './exec-mounts.ts';
import { FailedStep, leaveExec } from './failed-step.ts';

const signal = new AbortController().signal;
const fail = (): never => assert.fail('not asked');

/** Mounts of every kind of tree, by what becomes of it. */
const MOUNTS = [
  { dest: '/', input: 0n, output: 0n },
  { dest: '/scratch', input: -1n, output: 1n },
  { dest: '/none', input: 0n, output: -1n },
  { dest: '/ro', input: 0n, output: -1n, readonly: true },
  { dest: '/cache', input: 0n, output: -1n, mountType: MountType.CACHE, cacheOpt: { ID: 'x' } },
];

async function fixture() {
  const store = await temporaryStore();
  const refs = openTestCache(store.store);
  const mutable = await refs.newMutable(undefined, { description: 'base' });
  const write = async (tree: Pick<typeof mutable, 'mount'>, name: string): Promise<void> => {
    await using mounts = await tree.mount(false);
    withMounted(mounts.mounts, (dir) => writeFileSync(join(dir, name), name));
  };
  await write(mutable, 'base');
  const base = await mutable.commit();
  const kept: Leftover[] = [];
  const context = (wanted: boolean, aborted = false): OpContext => ({
    signal: aborted ? AbortSignal.abort() : signal,
    progress: { log: fail, status: fail, warn: fail },
    sessions: () => [],
    vertex: digestOf('v'),
    keeper: () => (wanted ? (left) => void kept.push(left) : undefined),
  });
  const services = {
    refs,
    cacheMounts: new CacheMounts(refs),
    getSecret: fail,
    forwardSsh: { check: fail, listen: fail },
    tmpDir: '',
  };
  const prepare = async (op: ExecOp): Promise<PreparedMounts> => {
    const own = { mounts: op.mounts, cwd: '/', name: 'exec x' };
    const prepared = await prepareMounts(own, [base], services, signal);
    for (const { ref } of [...prepared.outputs, ...prepared.actives])
      if (ref.kind === 'mutable') await write(ref, 'made');
    return prepared;
  };
  const end = async (prepared: PreparedMounts): Promise<void> => {
    for (const step of prepared.cleanup.reverse()) await step();
  };
  /** Records that are neither the base nor a cache mount. */
  const others = async (): Promise<number> =>
    (await refs.diskUsage()).filter(({ id, recordType }) => id !== base.id && recordType === 'regular')
      .length;
  return {
    refs,
    base,
    kept,
    context,
    prepare,
    end,
    others,
    [Symbol.asyncDispose]: async () => {
      await base.release();
      await store[Symbol.asyncDispose]();
    },
  };
}

test('a failed exec leaves its trees as they are, with those it began with', async () => {
  await using all = await fixture();
  const op = ExecOp.fromPartial({ mounts: MOUNTS });
  const prepared = await all.prepare(op);
  await all.end(prepared);
  await leaveExec(op, [all.base], prepared, all.context(true));
  const step = all.kept[0];
  assert.ok(step instanceof FailedStep);
  const show = async (id: string): Promise<string[] | undefined> => {
    const tree = id === '' ? undefined : step.tree(id);
    return tree && (await treeOf(tree)).map((line) => line.split(' ').at(-1)!.replace(/^.*:/, ''));
  };
  const names = async (ids: readonly string[]) =>
    (await Promise.all(ids.map(show))).map((l) => l?.length ?? 0);
  assert.deepEqual(await names(step.inputIds), [1, 0, 1, 1, 1]);
  assert.deepEqual(await names(step.mountIds), [2, 1, 2, 1, 1]);
  assert.equal(step.inputIds[3], step.mountIds[3], 'nothing was written there');
  assert.equal(step.part, undefined);
  const [root] = step.mountIds;
  await step.release();
  assert.equal(step.tree(root!), undefined);
  assert.equal(await all.others(), 0);
});

test('nothing is kept of a step that nobody looks into, or that was cancelled', async () => {
  for (const [wanted, aborted] of [
    [false, false],
    [true, true],
  ] as const) {
    await using all = await fixture();
    const op = ExecOp.fromPartial({ mounts: MOUNTS });
    const prepared = await all.prepare(op);
    await all.end(prepared);
    await leaveExec(op, [all.base], prepared, all.context(wanted, aborted));
    assert.deepEqual(all.kept, []);
    assert.equal(await all.others(), 0);
  }
});

test('a root that is read-only is told as it was, not with its mount points; without mounts the inputs are', async () => {
  await using all = await fixture();
  const op = ExecOp.fromPartial({ mounts: [{ dest: '/', input: 0n, output: -1n, readonly: true }] });
  const prepared = await all.prepare(op);
  await leaveExec(op, [all.base], prepared, all.context(true));
  await leaveExec(op, [all.base], undefined, all.context(true));
  for (const step of all.kept as FailedStep[]) {
    assert.deepEqual(step.mountIds, step.inputIds);
    const tree = step.tree(step.mountIds[0]!) as ImmutableRef;
    assert.equal(tree.id, all.base.id);
    await step.release();
  }
  assert.equal(await all.others(), 0);
});
