import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CacheSharingOpt, Mount } from '../llb/ops.ts';
import { openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { openTestStore, temporaryRoot } from '../testing/store.ts';
import { type CacheDir, CacheMounts, StepCacheMounts } from './cache-mounts.ts';

const { SHARED, PRIVATE, LOCKED } = CacheSharingOpt;

function cacheMount(ID: string, sharing: CacheSharingOpt): Mount {
  return Mount.fromPartial({ dest: '/cache', cacheOpt: { ID, sharing } });
}

async function inDir<T>(dir: CacheDir, use: (path: string) => T): Promise<T> {
  const view = await dir.mount(false);
  try {
    return withMounted(view.mounts, use);
  } finally {
    await view.release();
  }
}

for (const sharing of [SHARED, PRIVATE, LOCKED])
  for (const withBase of [false, true])
    test(`two mounts of one step share a directory, mode ${sharing}${withBase ? ', over a base' : ''}`, async () => {
      await using stack = new AsyncDisposableStack();
      const root = stack.use(temporaryRoot());
      const store = openTestStore(root.path);
      stack.defer(() => store.close());
      const refs = openTestCache(store);
      stack.defer(() => refs.close());
      const signal = AbortSignal.timeout(10_000);
      const llb = cacheMount('id', sharing);
      await using base = withBase
        ? await (await refs.newMutable(undefined, { description: 'base' })).commit()
        : undefined;
      const mounts = new CacheMounts(refs);
      const step = new StepCacheMounts(mounts);
      const first = await step.open(llb, base, 'first', signal);
      const second = await step.open(llb, base, 'second', signal);
      const [one, two] = [await first.mount(false), await second.mount(false)];
      withMounted(one.mounts, (a) =>
        withMounted(two.mounts, (b) => {
          writeFileSync(join(a, 'file'), '');
          assert.ok(existsSync(join(b, 'file')));
        }),
      );
      await one.release();
      await two.release();
      await first.release();
      if (sharing === LOCKED) {
        // The step still holds it with its other mount.
        const soon = AbortSignal.timeout(250);
        await assert.rejects(mounts.open(llb, base, 'next', soon), /abort/i);
      }
      await second.release();
      const next = await new StepCacheMounts(mounts).open(llb, base, 'next', signal);
      assert.ok(await inDir(next, (dir) => existsSync(join(dir, 'file'))));
      await next.release();
    });

test('a directory that is forgotten goes: at once, or with its last user', async () => {
  await using stack = new AsyncDisposableStack();
  const root = stack.use(temporaryRoot());
  const store = openTestStore(root.path);
  stack.defer(() => store.close());
  const refs = openTestCache(store);
  stack.defer(() => refs.close());
  const signal = AbortSignal.timeout(10_000);
  const mounts = new CacheMounts(refs);
  const names = async (): Promise<string[]> =>
    (await refs.diskUsage()).map(({ description }) => description).sort();
  await (await mounts.open(cacheMount('unused', SHARED), undefined, 'unused', signal)).release();
  const held = await mounts.open(cacheMount('held', SHARED), undefined, 'held', signal);
  assert.deepEqual(await names(), ['held', 'unused']);
  mounts.forget(['unused', 'held'].map((id) => ({ id, withBase: false })));
  while ((await names()).includes('unused')) signal.throwIfAborted();
  assert.deepEqual(await names(), ['held']);
  const next = await mounts.open(cacheMount('held', SHARED), undefined, 'next', signal);
  await held.release();
  await next.release();
  assert.deepEqual(await names(), ['next']);
});
