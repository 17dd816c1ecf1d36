import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryRoot } from '../testing/store.ts';
import { Database } from './database.ts';
import { storeJobs } from './jobs.ts';

const TABLE = ['CREATE TABLE t (v INTEGER PRIMARY KEY, fill TEXT)'];
const rows = (db: Database): number => db.get<{ n: number }>('SELECT count(*) AS n FROM t')!.n;

test('a transaction is all or nothing, nested ones belong to the outermost', async () => {
  await using root = temporaryRoot();
  using db = new Database(join(root.path, 'db'));
  db.migrate('t', TABLE);
  const after: string[] = [];
  db.transaction(() => {
    db.run('INSERT INTO t VALUES (1, NULL)');
    db.afterCommit(() => after.push(`committed ${rows(db)}`));
    db.transaction(() => db.run('INSERT INTO t VALUES (2, NULL)'));
    assert.deepEqual(after, []);
  });
  assert.deepEqual(after, ['committed 2']);
  assert.throws(
    () =>
      db.transaction(() => {
        db.transaction(() => db.run('INSERT INTO t VALUES (3, NULL)'));
        db.afterCommit(() => after.push('never'));
        throw new Error('no');
      }),
    /no/,
  );
  assert.equal(rows(db), 2);
  db.transaction(() => db.run('INSERT INTO t VALUES (3, NULL)'));
  assert.deepEqual(after, ['committed 2']);
  db.afterCommit(() => after.push('at once'));
  assert.equal(after.at(-1), 'at once');
});

test('migrations run once each, in order', async () => {
  await using root = temporaryRoot();
  const path = join(root.path, 'db');
  {
    using db = new Database(path);
    db.migrate('t', TABLE);
    db.migrate('other', ['CREATE TABLE o (v)']);
    db.run('INSERT INTO t VALUES (1, NULL)');
  }
  using db = new Database(path);
  db.migrate('t', [...TABLE, 'ALTER TABLE t ADD COLUMN more TEXT', "UPDATE t SET more = 'x'"]);
  db.migrate('t', [...TABLE, 'ALTER TABLE t ADD COLUMN more TEXT', "UPDATE t SET more = 'x'"]);
  assert.equal(db.get<{ more: string }>('SELECT more FROM t')?.more, 'x');
  assert.throws(() => db.migrate('t', TABLE), /newer version/);
  assert.throws(() => db.migrate('broken', ['CREATE TABLE b (v)', 'nonsense']));
  assert.throws(() => db.run('INSERT INTO b VALUES (1)'), /no such table/);
});

test('a log that has grown is moved into the file in the background', async () => {
  await using root = temporaryRoot();
  const path = join(root.path, 'db');
  const db = new Database(path);
  let checkpoints = 0;
  db.checkpoint = async () => {
    checkpoints++;
    storeJobs.checkpoint({ path });
  };
  db.migrate('t', TABLE);
  const fill = 'x'.repeat(10_000);
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 500; i++) db.run('INSERT INTO t VALUES (?, ?)', round * 500 + i, fill);
    await db.flush();
  }
  assert.ok(checkpoints >= 2, `${checkpoints}`);
  const before = checkpoints;
  for (let i = 0; i < 10; i++) {
    db.run('UPDATE t SET fill = ? WHERE v = 1', `${i}`);
    await db.flush();
  }
  assert.ok(checkpoints <= before + 1, `${checkpoints - before} checkpoints of a small log`);
  assert.ok(statSync(`${path}-wal`).size < 16 << 20);
  assert.ok(statSync(path).size > 10 << 20);
  await db.close();
  using again = new Database(path);
  assert.equal(rows(again), 2000);
});
