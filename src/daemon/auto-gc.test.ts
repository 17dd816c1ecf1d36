import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { silentLogger } from '../base/log.ts';
import type { PruneOptions, UsageRecord } from '../cache/ref.ts';
import { AutoGc } from './auto-gc.ts';

const RULES: readonly PruneOptions[] = [{ all: true }];

function fixture(
  t: TestContext,
  { found = 0, rules = RULES }: { found?: number; rules?: typeof RULES } = {},
) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const seen = { prunes: [] as (readonly PruneOptions[])[], released: 0, ended: 0 };
  const gc = new AutoGc({
    refs: {
      prune: async function* (given, options) {
        seen.prunes.push(given);
        for (let i = 0; i < found; i++) yield { id: String(i), size: 1 } as UsageRecord;
        if (options?.signal?.aborted) seen.ended++;
      },
    },
    policies: () => rules,
    releaseUnreferenced: async () => void seen.released++,
    log: silentLogger,
  });
  const pass = async (ms: number): Promise<void> => {
    t.mock.timers.tick(ms);
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  return { gc, seen, pass };
}

test('collects one second after it is asked to, and not again for a minute', async (t) => {
  const { gc, seen, pass } = fixture(t);
  gc.schedule();
  await pass(999);
  assert.equal(seen.prunes.length, 0);
  await pass(1);
  assert.deepEqual(seen.prunes, [RULES]);
  for (let i = 0; i < 5; i++) gc.schedule();
  await pass(59_999);
  assert.equal(seen.prunes.length, 1);
  await pass(1);
  assert.equal(seen.prunes.length, 2);
  await pass(120_000);
  assert.equal(seen.prunes.length, 2);
  await gc[Symbol.asyncDispose]();
});

test('cache keys are looked through after something went, every five minutes at most', async (t) => {
  const { gc, seen, pass } = fixture(t, { found: 2 });
  for (let minute = 0; minute < 4; minute++) {
    gc.schedule();
    await pass(1000);
    await pass(60_000);
  }
  assert.equal(seen.prunes.length, 4);
  assert.equal(seen.released, 1);
  gc.schedule();
  await pass(1000);
  await pass(60_000);
  assert.equal(seen.released, 2);
  await gc[Symbol.asyncDispose]();
});

test('nothing found releases nothing; without policies nothing runs', async (t) => {
  const { gc, seen, pass } = fixture(t);
  gc.schedule();
  await pass(1000);
  assert.equal(seen.released, 0);
  await gc[Symbol.asyncDispose]();
  gc.schedule();
  await pass(100_000);
  assert.equal(seen.prunes.length, 1);
  t.mock.timers.reset();
  const off = fixture(t, { rules: [] });
  off.gc.schedule();
  await off.pass(1000);
  assert.equal(off.seen.prunes.length, 0);
  await off.gc[Symbol.asyncDispose]();
});
