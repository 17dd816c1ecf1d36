import assert from 'node:assert/strict';
import { test } from 'node:test';
import { basePath, cleanPath, joinPath } from './gopath.ts';

/** Of Go's path.Clean: name, result. */
const CLEAN: Readonly<Record<string, string>> = {
  '': '.',
  '.': '.',
  './': '.',
  '..': '..',
  '/': '/',
  '//': '/',
  '/.': '/',
  '/..': '/',
  a: 'a',
  'a/': 'a',
  'a/b': 'a/b',
  '/a/b': '/a/b',
  'a//b': 'a/b',
  'a/./b': 'a/b',
  'a/../b': 'b',
  'a/b/..': 'a',
  'a/b/.': 'a/b',
  './a': 'a',
  '../a': '../a',
  'a/../../b': '../b',
  '/a/../../b': '/b',
  '.a': '.a',
  'a/.b': 'a/.b',
  'a/..b/c': 'a/..b/c',
  'a./b..': 'a./b..',
};

test('names are cleaned as path.Clean of Go does, and stay so', () => {
  for (const [name, clean] of Object.entries(CLEAN)) {
    assert.equal(cleanPath(name), clean, name);
    assert.equal(cleanPath(clean), clean, clean);
  }
});

test('join and base', () => {
  assert.equal(joinPath('/', '', 'a', '../b'), '/b');
  assert.equal(joinPath('', ''), '');
  assert.equal(basePath('/a/b//'), 'b');
  assert.equal(basePath('/'), '/');
  assert.equal(basePath(''), '.');
});
