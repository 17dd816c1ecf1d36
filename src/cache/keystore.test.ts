import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryKeyStore } from '../solver/keystore.ts';
import { keyStoreContract } from '../testing/contracts/keystore.ts';
import { openTestStore, temporaryRoot, temporaryStore } from '../testing/store.ts';
import { SqlKeyStore } from './keystore.ts';

keyStoreContract('database keys', async () => {
  const fixture = await temporaryStore();
  return {
    keys: new SqlKeyStore(fixture.store.db),
    [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose](),
  };
});
keyStoreContract('keys in memory', async () => ({
  keys: new MemoryKeyStore(),
  [Symbol.asyncDispose]: async () => {},
}));

test('the cache graph is there after a restart', async () => {
  await using root = temporaryRoot();
  const step = { input: 0, output: 0, digest: 'd', selector: '' };
  {
    await using store = openTestStore(root.path);
    const keys = new SqlKeyStore(store.db);
    keys.link('a', step, 'b');
    keys.addRecord({ key: 'b', resultId: 'r', createdAt: 3 });
  }
  await using store = openTestStore(root.path);
  const keys = new SqlKeyStore(store.db);
  assert.deepEqual(keys.query('a', step), ['b']);
  assert.deepEqual(keys.records('b'), [{ key: 'b', resultId: 'r', createdAt: 3 }]);
});

test('results are listed over page borders', async () => {
  await using fixture = await temporaryStore();
  const keys = new SqlKeyStore(fixture.store.db);
  fixture.store.db.transaction(() => {
    for (let i = 0; i < 1203; i++) keys.addRecord({ key: `k${i % 7}`, resultId: `r${i}`, createdAt: i });
  });
  assert.equal(new Set(keys.resultIds()).size, 1203);
});

test('results that are gone are found and let go', async () => {
  await using fixture = await temporaryStore();
  const keys = new SqlKeyStore(fixture.store.db);
  const step = { input: 0, output: 0, digest: 'd', selector: '' };
  fixture.store.db.transaction(() => {
    for (let i = 0; i < 1203; i++) keys.addRecord({ key: `k${i}`, resultId: `r${i}`, createdAt: i });
    keys.link('root', step, 'k7');
  });
  await keys.releaseUnreferenced((id) => id === 'r8', new AbortController().signal);
  assert.deepEqual([...keys.resultIds()], ['r8']);
  assert.deepEqual(keys.query('root', step), []);
  await assert.rejects(async () => {
    fixture.store.db.transaction(() => {
      for (let i = 0; i < 600; i++) keys.addRecord({ key: `k${i}`, resultId: `r${i}`, createdAt: i });
    });
    await keys.releaseUnreferenced(() => true, AbortSignal.abort(new Error('enough')));
  }, /enough/);
});
