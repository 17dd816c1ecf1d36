import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import type { Finding } from '../fsck/finding.ts';
import { Database } from '../store/database.ts';
import type { KeptBuild } from './kept.ts';
import { ExplainStore } from './store.ts';

const base = mkdtempSync(join(tmpdir(), 'bkt-explain-check-'));
after(() => rmSync(base, { recursive: true, force: true }));
const never = new AbortController().signal;

let serial = 0;

function fill() {
  const at = join(base, String(serial++));
  const db = new Database(`${at}.db`);
  const dir = join(at, 'explain');
  const store = new ExplainStore(db, dir);
  for (const name of ['a', 'b']) {
    store.expectManifest(`sha256:${name}`);
    writeFileSync(join(dir, name), zstdCompressSync('[]'));
    store.putManifest(`sha256:${name}`, 10);
    const step = { name, kind: 'exec', facts: {}, pin: '', inputs: [], keys: [], end: 'done' } as const;
    const build: KeptBuild = { args: [], at: 1, steps: [{ ...step, contents: [`sha256:${name}`] }] };
    store.put(`line ${name}`, 'f', build);
    store.putResult(`ref-${name}`, { ref: `ref-${name}`, steps: [] } as never);
  }
  // A build that has not ended wants this one.
  store.expectManifest('sha256:fresh');
  writeFileSync(join(dir, 'fresh'), 'half');
  const sql = (text: string): void => void db.run(text);
  return { db, dir, store, sql, [Symbol.dispose]: () => db[Symbol.dispose]() };
}

type Case = ReturnType<typeof fill>;

const check = ({ store }: Case, deep = true): Promise<Finding[]> =>
  Array.fromAsync(store.check({ deep, signal: never }, (path) => rmSync(path)));

const line = ({ leftover, kind, id, problem }: Finding): string =>
  `${leftover ? 'leftover' : 'damaged'} ${kind} ${id}: ${problem}`;

const DAMAGES: Readonly<Record<string, readonly [(c: Case) => void, string]>> = {
  'a build that makes no sense': [
    ({ sql }) => sql("UPDATE explain_builds SET data = x'00' WHERE line = 'line a'"),
    'leftover explanation line a: it is unreadable',
  ],
  'an explanation that makes no sense': [
    ({ sql }) => sql("UPDATE explain_results SET data = x'00' WHERE ref = 'ref-a'"),
    'leftover explanation ref-a: it is unreadable',
  ],
  'rows of a build that is gone': [
    ({ sql }) => sql("INSERT INTO explain_contents VALUES (99, 'sha256:a')"),
    'leftover database explain_contents: 1 rows belong to builds that are gone',
  ],
  'a list of files that is lost': [
    ({ dir }) => rmSync(join(dir, 'a')),
    'leftover explanation sha256:a: its list of files is missing',
  ],
  'a list of files that is damaged': [
    ({ dir }) => writeFileSync(join(dir, 'a'), 'x'),
    'leftover explanation sha256:a: its list of files is damaged',
  ],
  'a file that nothing knows': [
    ({ dir }) => writeFileSync(join(dir, 'x'), 'x'),
    'leftover file explain/x: nothing knows it',
  ],
};

test('explanations that nothing has happened to', async () => {
  using made = fill();
  assert.deepEqual((await check(made)).map(line), []);
});

for (const [name, [damage, expected]] of Object.entries(DAMAGES))
  test(`found and repaired: ${name}`, async () => {
    using made = fill();
    damage(made);
    const found = await check(made);
    assert.deepEqual(found.map(line), [expected]);
    // Looking changes nothing.
    assert.deepEqual((await check(made)).map(line), [expected]);
    for (const { repair } of found) await repair();
    assert.deepEqual((await check(made)).map(line), []);
    assert.equal(made.store.builds('line b')[0]?.steps[0]?.name, 'b');
    assert.ok(made.store.result('ref-b'));
    assert.ok(existsSync(join(made.dir, 'fresh')));
  });

test('what makes no sense hides nothing else', () => {
  using made = fill();
  made.sql(
    "UPDATE explain_builds SET line = 'line b', fingerprint = 'g', data = x'00' WHERE line = 'line a'",
  );
  made.sql("UPDATE explain_results SET data = x'00' WHERE ref = 'ref-a'");
  assert.equal(made.store.builds('line b').length, 1);
  assert.equal(made.store.result('ref-a'), undefined);
});
