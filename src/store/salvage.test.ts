import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { inlineJobs, temporaryRoot } from '../testing/store.ts';
import { asideOf, Database } from './database.ts';
import { storeJobs } from './jobs.ts';
import { salvage } from './salvage.ts';

const PAGE_BYTES = 4096;
const ROWS = 5000;
const SCHEMA = [
  `CREATE TABLE named (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
   CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, value TEXT NOT NULL);
   CREATE INDEX numbered_value ON numbered (value);`,
];

function fill(path: string): void {
  using db = new Database(path);
  db.migrate('test', SCHEMA);
  db.transaction(() => {
    for (let i = 0; i < ROWS; i++) {
      const name = String(i).padStart(6, '0');
      db.run('INSERT INTO named VALUES (?, ?)', name, `value of ${name}`);
      db.run('INSERT INTO numbered (value) VALUES (?)', `value of ${name}`);
    }
  });
}

/** Writes rubbish over a leaf page of a table. */
function spoilTable(path: string, table: string): void {
  const db = new DatabaseSync(path);
  const pages = db
    .prepare("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path")
    .all(table) as { pageno: number }[];
  db.close();
  const { pageno } = pages[pages.length >> 1]!;
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(PAGE_BYTES, 0xee), 0, PAGE_BYTES, (pageno - 1) * PAGE_BYTES);
  closeSync(fd);
}

const count = (db: Database, table: string): number =>
  db.get<{ n: number }>(`SELECT count(*) AS n FROM ${table}`)!.n;

test('rows before and after a damaged page are saved', async () => {
  await using root = temporaryRoot();
  const path = join(root.path, 'a.db');
  fill(path);
  spoilTable(path, 'named');
  spoilTable(path, 'numbered');
  const to = join(root.path, 'b.db');
  const { rows, damaged } = salvage(path, to);
  assert.deepEqual(damaged.toSorted(), ['named', 'numbered']);
  assert.ok(rows > 2 * ROWS * 0.9 && rows < 2 * ROWS, `${rows} rows`);
  using db = new Database(to);
  db.migrate('test', SCHEMA); // nothing to do: the version came along
  for (const [table, key] of [
    ['named', 'name'],
    ['numbered', 'value'],
  ])
    for (const end of ['min', 'max'])
      assert.match(
        db.get<{ v: string }>(`SELECT ${end}(${key}) AS v FROM ${table}`)!.v,
        end === 'min' ? /000000/ : /004999/,
      );
  assert.deepEqual(await inlineJobs(storeJobs).run('checkDatabase', { path: to, deep: true }), []);
});

test('a page that turns out to be damaged while the database is in use', async () => {
  await using root = temporaryRoot();
  const path = join(root.path, 'a.db');
  fill(path);
  spoilTable(path, 'named');
  const problems = await inlineJobs(storeJobs).run('checkDatabase', { path, deep: false });
  assert.ok(problems.length > 0);
  const db = new Database(path);
  db.migrate('test', SCHEMA);
  let told = 0;
  db.onRebuilt = ({ damaged }) => {
    told++;
    assert.deepEqual(damaged, ['named']);
  };
  const before = db.get<{ value: string }>('SELECT value FROM named WHERE name = ?', '000001');
  assert.deepEqual({ ...before }, { value: 'value of 000001' });
  assert.equal(told, 0);
  const wrote = db.transaction(() => {
    db.run('INSERT INTO numbered (value) VALUES (?)', 'new');
    return db.all('SELECT * FROM named').length;
  });
  assert.equal(told, 1);
  assert.ok(wrote > ROWS * 0.9 && wrote < ROWS);
  // The transaction counts once.
  assert.equal(count(db, 'numbered'), ROWS + 1);
  await db.close();
  assert.ok(existsSync(asideOf(path)));
  using again = new Database(path);
  assert.equal(count(again, 'numbered'), ROWS + 1);
});

test('of a file that is no database nothing is saved, and an empty one takes its place', async () => {
  await using root = temporaryRoot();
  const path = join(root.path, 'a.db');
  fill(path);
  const db = new Database(path);
  db.migrate('test', SCHEMA);
  writeFileSync(path, Buffer.alloc(statSync(path).size, 0x11));
  db.rebuild();
  assert.equal(count(db, 'named'), 0);
  db.run('INSERT INTO named VALUES (?, ?)', 'a', 'b');
  await db.close();
  assert.equal(readFileSync(asideOf(path))[0], 0x11);
});

test('a database that its process left open is known as such', async () => {
  await using root = temporaryRoot();
  const path = join(root.path, 'a.db');
  fill(path);
  const first = new Database(path);
  assert.equal(first.wasLeftOpen, false);
  first.migrate('test', SCHEMA);
  first.run('INSERT INTO named VALUES (?, ?)', 'a', 'b');
  // A second one while the first has not closed: as after its process was killed.
  const second = new Database(path);
  assert.equal(second.wasLeftOpen, true);
  await second.close();
  await first.close();
});
