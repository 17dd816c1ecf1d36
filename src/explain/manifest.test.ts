import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ContentSelector, selectPath } from '../cache/content-selector.ts';
import { keepSmallManifest, manifestJobs } from './manifest.ts';

const dir = mkdtempSync(join(tmpdir(), 'bkt-manifest-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const context = { throwIfAborted: () => {}, report: () => {} };
const WHOLE = selectPath('/', false);

let serial = 0;
function keep(tree: string, selectors: readonly ContentSelector[] = [WHOLE], maxEntries = 20_000): string {
  const file = join(dir, `m${serial++}`);
  const index = join(dir, 'none');
  assert.ok(manifestJobs.keepManifest({ dir: tree, index, selectors, file, maxEntries }, context) > 0);
  return file;
}

function tree(files: Readonly<Record<string, string>>): string {
  const root = join(dir, `t${serial++}`);
  mkdirSync(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
    utimesSync(join(root, path), 1, 1);
  }
  return root;
}

function changes(before: string, after: string, limit = 100): string[] {
  const found = manifestJobs.compareManifests({ before, after, limit });
  assert.ok(found);
  const lines = found.named.map(({ path, change, old, new: now }) =>
    [change, path, old, now].filter(Boolean).join(' '),
  );
  return found.more > 0 ? [...lines, `${found.more} more`] : lines;
}

test('every kind of change of a file', () => {
  const root = tree({
    content: 'a',
    mode: 'a',
    owner: 'a',
    both: 'a',
    gone: 'g',
    old: 'moved',
    'd/type': 'x',
    same: 's',
  });
  symlinkSync('one', join(root, 'link'));
  const before = keep(root);
  assert.deepEqual(changes(before, keep(root)), []);
  writeFileSync(join(root, 'content'), 'b');
  chmodSync(join(root, 'mode'), 0o600);
  chownSync(join(root, 'owner'), 5, 6);
  writeFileSync(join(root, 'both'), 'b');
  chmodSync(join(root, 'both'), 0o755);
  rmSync(join(root, 'gone'));
  renameSync(join(root, 'old'), join(root, 'new'));
  rmSync(join(root, 'd/type'));
  mkdirSync(join(root, 'd/type'));
  rmSync(join(root, 'link'));
  symlinkSync('two', join(root, 'link'));
  mkdirSync(join(root, 'more/deep'), { recursive: true });
  writeFileSync(join(root, 'more/deep/file'), 'n');
  // Times alone are no change, and tell content and mode apart no better than the content does.
  for (const name of ['mode', 'owner', 'same']) utimesSync(join(root, name), 99, 99);
  assert.deepEqual(changes(before, keep(root)).sort(), [
    'added /more/deep/file',
    'content /both',
    'content /content',
    'link /link one two',
    'mode /both 0644 0755',
    'mode /mode 0644 0600',
    'owner /owner 0:0 5:6',
    'removed /gone',
    'renamed /new /old /new',
    'type /d/type file directory',
  ]);
  assert.equal(changes(before, keep(root), 3).at(-1), '7 more');
});

test('selections: single files, wildcards, patterns', () => {
  const root = tree({ 'src/a.ts': 'a', 'src/b.js': 'b', 'c.ts': 'c' });
  const selected = (selector: Partial<ContentSelector>) => () => keep(root, [{ ...WHOLE, ...selector }]);
  const ways = {
    file: selected({ path: '/c.ts' }),
    wildcard: selected({ path: '/src/*.ts', wildcard: true }),
    pattern: selected({ path: '/', includePatterns: ['**/*.ts'] }),
    excluded: selected({ path: '/src', excludePatterns: ['*.ts'] }),
  };
  const before = Object.entries(ways).map(([name, make]) => [name, make()] as const);
  for (const path of ['src/a.ts', 'src/b.js', 'c.ts']) writeFileSync(join(root, path), 'changed');
  const found = Object.fromEntries(before.map(([name, old]) => [name, changes(old, ways[name as 'file']())]));
  assert.deepEqual(found, {
    file: ['content /c.ts'],
    wildcard: ['content /src/a.ts'],
    pattern: ['content /c.ts', 'content /src/a.ts'],
    excluded: ['content /src/b.js'],
  });
});

test('too many files: directories further down stand for what they hold', () => {
  const root = tree({ top: 't' });
  for (let d = 0; d < 3; d++) {
    mkdirSync(join(root, `d${d}`));
    for (let f = 0; f < 8; f++) writeFileSync(join(root, `d${d}`, `f${f}`), '');
  }
  const few = (): string => keep(root, [WHOLE], 20);
  const before = few();
  writeFileSync(join(root, 'd2/f7'), 'x');
  writeFileSync(join(root, 'd0/f7'), 'x');
  assert.deepEqual(changes(before, few()), ['below /d2', 'content /d0/f7']);
});

test('what is gone or damaged is not known', () => {
  const good = keep(tree({ a: 'a' }));
  assert.equal(
    manifestJobs.compareManifests({ before: join(dir, 'nowhere'), after: good, limit: 1 }),
    undefined,
  );
  const bad = join(dir, 'bad');
  writeFileSync(bad, 'x');
  assert.equal(manifestJobs.compareManifests({ before: good, after: bad, limit: 1 }), undefined);
});

test('what cannot be kept leaves nothing behind', () => {
  const root = tree({ a: 'a' });
  const folder = join(dir, `kept${serial++}`);
  const file = join(folder, 'taken');
  mkdirSync(join(file, 'full'), { recursive: true });
  const index = join(dir, 'none');
  assert.throws(() => manifestJobs.keepManifest({ dir: root, index, selectors: [WHOLE], file }, context));
  assert.deepEqual(readdirSync(folder), ['taken']);
});

test('a small tree gives the same without a thread, a large one nothing', () => {
  const root = tree({ a: 'x', 'd/b': 'y' });
  const input = { dir: root, index: join(dir, 'none'), selectors: [WHOLE] };
  const small = join(dir, `m${serial++}`);
  assert.ok((keepSmallManifest({ ...input, file: small }) ?? 0) > 0);
  assert.deepEqual(readFileSync(small), readFileSync(keep(root)));

  const many = tree(Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`f${i}`, 'x'])));
  const long = tree({ a: 'x'.repeat((1 << 20) + 1) });
  const unknown = tree({ a: 'x'.repeat(300_000) });
  for (const large of [many, long, unknown]) {
    const file = join(dir, `m${serial++}`);
    assert.equal(keepSmallManifest({ ...input, dir: large, file }), undefined);
    assert.equal(existsSync(file), false);
  }
  const selectors = Array<ContentSelector>(9).fill(WHOLE);
  assert.equal(keepSmallManifest({ ...input, selectors, file: small }), undefined, 'many selectors');
});
