import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockRoot } from './lock.ts';

test('a root has one holder at a time, named to the second', () => {
  const root = mkdtempSync(join(tmpdir(), 'lock-'));
  const first = lockRoot(root, 'buildkitd 1');
  assert.throws(() => lockRoot(root, 'buildkitd 2'), {
    message: `could not lock ${root}/buildkitd.lock, another instance running?`,
    hint: /buildkitd 1 uses/,
  });
  first[Symbol.dispose]();
  assert.ok(!existsSync(join(root, 'buildkitd.lock')));
  lockRoot(root, 'buildkitd 2')[Symbol.dispose]();
  rmSync(root, { recursive: true });
});
