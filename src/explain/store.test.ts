import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Database } from '../store/database.ts';
import type { KeptBuild, KeptStep } from './kept.ts';
import { ExplainStore, MAX_LINE_BUILDS } from './store.ts';

const dir = mkdtempSync(join(tmpdir(), 'bkt-explain-'));
after(() => rmSync(dir, { recursive: true, force: true }));

let serial = 0;
function open() {
  const db = new Database(join(dir, `${serial}.db`));
  return { db, path: join(dir, `${serial++}`), store: new ExplainStore(db, join(dir, `${serial - 1}`)) };
}

function build(name: string, contents: string[] = []): KeptBuild {
  const step: KeptStep = {
    name,
    kind: 'exec',
    facts: {},
    pin: '',
    inputs: [],
    contents,
    keys: [],
    end: 'done',
  };
  return { args: [], at: 1, steps: [step] };
}

const names = (store: ExplainStore, line: string): string[] =>
  store.builds(line).map(({ steps }) => steps[0]!.name);

test('the newest builds of a line, each once; touching one makes it the newest', () => {
  const { db, store } = open();
  using _db = db;
  for (let i = 0; i < MAX_LINE_BUILDS + 3; i++) store.put('line', `f${i}`, build(`b${i}`));
  assert.equal(store.builds('line').length, MAX_LINE_BUILDS);
  assert.equal(names(store, 'line')[0], 'b10');
  assert.equal(store.touch('line', 'f5'), true);
  assert.deepEqual(names(store, 'line').slice(0, 2), ['b5', 'b10']);
  assert.equal(store.touch('line', 'f0'), false);
  store.put('line', 'f10', build('again'));
  assert.deepEqual(names(store, 'line').slice(0, 2), ['again', 'b5']);
  assert.equal(store.builds('line').length, MAX_LINE_BUILDS);
  assert.deepEqual(names(store, 'other'), []);
});

test('manifests live as long as a build names them', async () => {
  const { db, store, path } = open();
  using _db = db;
  const keep = (digest: string): void => {
    store.expectManifest(digest);
    writeFileSync(store.manifest(digest), 'x');
    store.putManifest(digest, 1);
  };
  keep('sha256:a');
  keep('sha256:b');
  store.put('line', 'f', build('one', ['sha256:a']));
  assert.ok(store.hasManifest('sha256:b'), 'of a build that has not ended');
  store.put('line', 'f', build('two', ['sha256:b']));
  assert.equal(store.hasManifest('sha256:a'), false);
  for (let i = 0; i < 200 && existsSync(join(path, 'a')); i++) await sleep(10);
  assert.equal(existsSync(join(path, 'a')), false);
  writeFileSync(join(path, 'left'), 'x');
  await store.sweep();
  assert.deepEqual([existsSync(join(path, 'left')), existsSync(join(path, 'b'))], [false, true]);
});

test('all that is kept stays within its limit', () => {
  const { db, store } = open();
  using _db = db;
  store.put('first', 'f', build('first'));
  store.putResult('ref', { steps: [], comparedWith: 1 });
  for (let i = 0; i < 3; i++) {
    store.expectManifest(`sha256:${i}`);
    store.putManifest(`sha256:${i}`, 30 << 20);
    store.put(`line${i}`, 'f', build(`b${i}`, [`sha256:${i}`]));
  }
  assert.deepEqual(names(store, 'first'), []);
  for (let i = 0; i < 1005; i++) store.put(`many${i}`, 'f', build('b'));
  assert.deepEqual([names(store, 'many4').length, names(store, 'many5').length], [0, 1]);
});

test('explanations are found by build until they are dropped', () => {
  const { db, store } = open();
  using _db = db;
  store.putResult('a', { steps: [], comparedWith: 5 });
  assert.deepEqual(store.result('a'), { steps: [], comparedWith: 5 });
  store.dropResult('a');
  assert.equal(store.result('a'), undefined);
  assert.match(store.salt, /^[0-9A-F]{32}$/);
  assert.equal(new ExplainStore(db, dir).salt, store.salt);
});
