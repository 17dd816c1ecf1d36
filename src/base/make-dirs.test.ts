import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeDirs } from './make-dirs.ts';

test('directories are made with those above them, or the reason is said', () => {
  const dir = mkdtempSync(join(tmpdir(), 'make-dirs-'));
  makeDirs(join(dir, 'a/b/c'), 0o700);
  makeDirs(join(dir, 'a/b/c'), 0o700);
  assert.equal(statSync(join(dir, 'a/b')).mode & 0o777, 0o700);
  symlinkSync(join(dir, 'a'), join(dir, 'link'));
  makeDirs(join(dir, 'link/d'));
  assert.ok(statSync(join(dir, 'a/d')).isDirectory());
  makeDirs('/');
  writeFileSync(join(dir, 'file'), '');
  assert.throws(() => makeDirs(join(dir, 'file')), { code: 'EEXIST' });
  assert.throws(() => makeDirs(join(dir, 'file/x/y')), { code: 'ENOTDIR' });
  for (const path of ['/proc/no-such', '/proc/no-such/b', '/proc/self/fd/x'])
    assert.throws(() => makeDirs(path), { code: /^(ENOENT|EACCES|EPERM)$/ }, path);
  rmSync(dir, { recursive: true });
});
