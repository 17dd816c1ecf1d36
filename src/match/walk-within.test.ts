import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { type TreeFilter, walkTree } from './walk.ts';
import { walkWithin } from './walk-within.ts';

const root = mkdtempSync(join(tmpdir(), 'within-'));
const FILES = ['a/x.ts', 'a/x.js', 'a/deep/y.ts', 'b/z.js', 'b/keep/k.js', 'top.ts', 'link-to/file'];

before(() => {
  for (const file of FILES) {
    mkdirSync(join(root, dirname(file)), { recursive: true });
    writeFileSync(join(root, file), file);
  }
  mkdirSync(join(root, 'empty'));
  symlinkSync('link-to/file', join(root, 'link'));
});

after(() => rmSync(root, { recursive: true, force: true }));

const paths = (own: TreeFilter, filter: TreeFilter = {}): string[] =>
  [...walkWithin(root, own, filter)].map(({ path }) => path);

const OWN: readonly TreeFilter[] = [
  {},
  { includePatterns: ['**/*.ts'] },
  { includePatterns: ['a'], excludePatterns: ['**/*.js'] },
  { excludePatterns: ['b', '!b/keep'] },
  { excludePatterns: ['*', '!a/deep/*.ts'] },
  { followPaths: ['link'] },
  { includePatterns: ['b/keep'], followPaths: ['top.ts'] },
];

test('without another filter it is what the filter itself selects', () => {
  for (const own of OWN)
    assert.deepEqual(
      paths(own),
      [...walkTree(root, own)].map(({ path }) => path),
      JSON.stringify(own),
    );
});

test('exceptions and links of the other filter reach nothing that is left out', () => {
  const own = { excludePatterns: ['a', 'link-to'] };
  assert.deepEqual(paths(own, { excludePatterns: ['**/*.js', '!**/x.js', '!a'] }), [
    'b',
    'b/keep',
    'empty',
    'link',
    'top.ts',
  ]);
  assert.deepEqual(paths(own, { followPaths: ['link', 'a/x.ts', 'b/z*'] }), ['b', 'b/z.js', 'link']);
  assert.deepEqual(paths({ includePatterns: ['a/deep'] }, { includePatterns: ['a/*'] }), [
    'a',
    'a/deep',
    'a/deep/y.ts',
  ]);
});

test('entries say where they are on disk', () => {
  assert.deepEqual(
    [...walkWithin(root, { includePatterns: ['top.ts'] }, {})].map(({ fullPath, kind }) => [fullPath, kind]),
    [[join(root, 'top.ts'), 'file']],
  );
});
