import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { newestFile } from './newest.ts';

test('the newest file of an archive, packed in any way, and nothing of what is none', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'newest-'));
  const context = { throwIfAborted: () => {}, report: () => {} };
  const newest = (name: string) => newestFile({ path: join(dir, name) }, context);
  try {
    writeFileSync(join(dir, 'a'), 'a');
    writeFileSync(join(dir, 'b'), 'b');
    utimesSync(join(dir, 'a'), 1000, 1000);
    utimesSync(join(dir, 'b'), 2000.5, 2000.5);
    symlinkSync('a', join(dir, 'newer-link'));
    for (const flag of ['', 'z', 'j', 'J']) {
      execFileSync('tar', [`-c${flag}f`, join(dir, `x${flag}`), '-C', dir, 'b', 'a', 'newer-link']);
      assert.equal(await newest(`x${flag}`), 2000);
    }
    execFileSync('tar', ['-cf', join(dir, 'links'), '-C', dir, 'newer-link']);
    assert.equal(await newest('links'), undefined);
    writeFileSync(join(dir, 'text'), 'text '.repeat(500));
    assert.equal(await newest('text'), undefined);
    writeFileSync(join(dir, 'empty'), '');
    assert.equal(await newest('empty'), undefined);
    await assert.rejects(newest('nowhere'), { code: 'ENOENT' });
  } finally {
    rmSync(dir, { recursive: true });
  }
});
