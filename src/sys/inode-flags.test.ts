import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { after, test } from 'node:test';
import { detachAll } from './mount.ts';
import { spreadSubdirectories } from './inode-flags.ts';

const base = mkdtempSync(join(tmpdir(), 'inode-flags-'));
after(() => rmSync(base, { recursive: true, force: true }));

test('ext4 is told to spread what lies below, other file systems have no such hint', () => {
  const image = join(base, 'disk');
  execFileSync('truncate', ['-s', '16M', image]);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  const dir = join(base, 'mounted');
  mkdirSync(dir);
  execFileSync('mount', ['-o', 'loop', image, dir]);
  try {
    const own = join(dir, 'own');
    mkdirSync(own);
    for (let i = 0; i < 2; i++) assert.equal(spreadSubdirectories(own), true);
    assert.match(execFileSync('lsattr', ['-d', own], { encoding: 'utf8' }), /^\S*T/);
  } finally {
    detachAll(dir);
  }
  const plain = join(base, 'tmpfs');
  mkdirSync(plain);
  execFileSync('mount', ['-t', 'tmpfs', 'none', plain]);
  try {
    assert.equal(spreadSubdirectories(plain), false);
  } finally {
    detachAll(plain);
  }
});
