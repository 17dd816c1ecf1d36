import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { openTestStore, temporaryRoot } from '../testing/store.ts';

const WRITER = new URL('../testing/crash-writer.ts', import.meta.url).pathname;
const KILLS = 5;

/** Runs the writer for `ms` and kills it; gives the ids that it said were done. */
async function runAndKill(root: string, ms: number): Promise<string[]> {
  const child = spawn(process.execPath, [WRITER, root], { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  const read = (async () => {
    for await (const chunk of child.stdout) out += chunk;
  })();
  while (!out.includes('\n')) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, ms));
  child.kill('SIGKILL');
  await read;
  return out.split('\n').slice(0, -1);
}

test('kill -9 in the middle of writes: what was done is there, what was not leaves no trace', async () => {
  await using root = temporaryRoot();
  const done: string[] = [];
  for (let i = 0; i < KILLS; i++) done.push(...(await runAndKill(root.path, 20 + i * 37)));
  assert.ok(done.length > KILLS, `${done.length} records`);
  await using store = openTestStore(root.path);
  const refs = openTestCache(store);
  assert.equal(store.db.get<{ quick_check: string }>('PRAGMA quick_check')?.quick_check, 'ok');
  for (const line of done) {
    const [id, blob] = line.split(' ') as [string, string];
    await using ref = await refs.get(id);
    await using mounts = await ref.mount(true);
    withMounted(mounts.mounts, (dir) => assert.ok(existsSync(join(dir, 'file'))));
    assert.ok(await store.content.verify(blob as Parameters<typeof store.content.verify>[0]));
  }
  await store.gc();
  await store.trashEmptied();
  // Rows and files agree: no directory or blob without a row, no temporary file, no work lease.
  const count = (sql: string): number => store.db.get<{ n: number }>(`SELECT count(*) AS n FROM ${sql}`)!.n;
  assert.equal(readdirSync(store.layout.snapshots).length, count('snapshots'));
  assert.equal(readdirSync(join(store.layout.content, 'sha256')).length, count('blobs'));
  assert.deepEqual(readdirSync(store.layout.tmp), ['mounts']);
  assert.deepEqual(readdirSync(store.layout.trash), []);
  assert.equal(count('leases WHERE temporary = 1'), 0);
  assert.equal(count("snapshots WHERE kind = 'active'"), 0);
  assert.equal(count('records'), count('leases'));
});
