import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { followLinks, linkReader } from './follow.ts';
import { type TreeFilter, TreeRules, walkTree } from './walk.ts';

const base = mkdtempSync(join(tmpdir(), 'walk-'));
after(() => rmSync(base, { recursive: true, force: true }));

let trees = 0;
/** `a/b` file, `a/` directory, `a -> b` symlink. */
function tree(...entries: string[]): string {
  const root = join(base, String(trees++));
  mkdirSync(root);
  for (const entry of entries) {
    const [path, target] = entry.split(' -> ');
    const full = join(root, path!);
    mkdirSync(entry.endsWith('/') ? full : dirname(full), { recursive: true });
    if (target !== undefined) symlinkSync(target, full);
    else if (!entry.endsWith('/')) writeFileSync(full, '');
  }
  return root;
}

function paths(root: string, filter: TreeFilter = {}): string[] {
  return [...walkTree(root, filter)].map((e) => (e.kind === 'dir' ? `${e.path}/` : e.path));
}

test('order: each directory right before what it holds, names by bytes', () => {
  const root = tree('b', 'a/x', 'a-b', 'a.c', 'é', 'Z', '\u{1f600}', '\uffee');
  assert.deepEqual(paths(root), ['Z', 'a/', 'a/x', 'a-b', 'a.c', 'b', 'é', '\uffee', '\u{1f600}']);
});

test('from an entry on, with the directories above it', () => {
  const root = tree('a/x/1', 'a/x/2', 'a/x/3/y', 'a/x-1', 'a/z/w', 'b');
  const from = (path: string): string[] => [...walkTree(root, {}, path)].map((e) => e.path);
  assert.deepEqual(from('a/x/2'), ['a', 'a/x', 'a/x/2', 'a/x/3', 'a/x/3/y', 'a/x-1', 'a/z', 'a/z/w', 'b']);
  assert.deepEqual(from('a/z/w'), ['a', 'a/z', 'a/z/w', 'b']);
  assert.deepEqual(from('b'), ['b']);
});

test('includes: parents come only with their first entry', () => {
  const root = tree('a/b/c.go', 'a/b/d.txt', 'e/f.txt', 'g/');
  assert.deepEqual(paths(root, { includePatterns: ['**/*.go'] }), ['a/', 'a/b/', 'a/b/c.go']);
  assert.deepEqual(paths(root, { includePatterns: ['a/b'] }), ['a/', 'a/b/', 'a/b/c.go', 'a/b/d.txt']);
  assert.deepEqual(paths(root, { includePatterns: ['e/*', 'g'] }), ['e/', 'e/f.txt', 'g/']);
  assert.deepEqual(paths(root, { includePatterns: ['none'] }), []);
});

test('excludes and exceptions', () => {
  const root = tree('a/b/keep', 'a/b/drop', 'a/x', 'c/y');
  assert.deepEqual(paths(root, { excludePatterns: ['a'] }), ['c/', 'c/y']);
  assert.deepEqual(paths(root, { excludePatterns: ['a', '!a/b/keep'] }), [
    'a/',
    'a/b/',
    'a/b/keep',
    'c/',
    'c/y',
  ]);
  assert.deepEqual(paths(root, { excludePatterns: ['*', '!**/x'] }), ['a/', 'a/x']);
  assert.deepEqual(paths(root, { includePatterns: ['a'], excludePatterns: ['a/b'] }), ['a/', 'a/x']);
});

test('an excluded directory is not read', () => {
  const rules = new TreeRules(linkReader('/'), { excludePatterns: ['node_modules', '!src/x'] });
  assert.equal(rules.exceptionParents?.has('node_modules'), false);
  assert.equal(rules.exceptionParents?.has('src'), true);
  assert.equal(rules.allows('node_modules/x'), false);
  assert.equal(rules.allows('other'), true);
});

test('follow paths pull in the links on the way', () => {
  const root = tree('dir/l1 -> /foo/l2', 'foo/l2 -> ../bar/l3', 'bar/l3 -> ../baz', 'baz', 'other');
  const reader = linkReader(root);
  assert.deepEqual(followLinks(reader, ['dir/l1']), ['bar/l3', 'baz', 'dir/l1', 'foo/l2']);
  assert.deepEqual(paths(root, { followPaths: ['dir/l1'] }), [
    'bar/',
    'bar/l3',
    'baz',
    'dir/',
    'dir/l1',
    'foo/',
    'foo/l2',
  ]);
  assert.deepEqual(followLinks(reader, ['dir/l*']), ['bar/l3', 'baz', 'dir/l*', 'foo/l2']);
});

test('follow paths: loops, missing names, nested paths, the top', () => {
  const root = tree('a -> b', 'b -> a', 'c/d/e', 'up -> ../../../../c', 'dir -> c');
  const reader = linkReader(root);
  assert.deepEqual(followLinks(reader, ['a']), ['a', 'b']);
  assert.deepEqual(followLinks(reader, ['none/x', 'c', 'c/d']), ['c', 'none/x']);
  assert.deepEqual(followLinks(reader, ['up/d/e']), ['c/d/e', 'up']);
  assert.deepEqual(followLinks(reader, ['dir/d']), ['c/d', 'dir']);
  assert.equal(followLinks(reader, ['c', '/']), undefined);
  assert.equal(paths(root, { followPaths: ['.'] }).length, paths(root).length);
});

test('bad patterns name their list', () => {
  const root = tree('a');
  assert.throws(() => paths(root, { excludePatterns: ['x', '['] }), {
    message: 'invalid excludepatterns: [x []: syntax error in pattern',
  });
  assert.throws(() => paths(join(root, 'a')), /not a directory/);
});
