import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { readDirIn, readFileIn, statFileIn, withTree } from './tree.ts';

test('an empty result is an empty folder', async () => {
  const never = (): never => assert.fail('nothing to mount');
  let dir = '';
  await withTree(null, never, AbortSignal.timeout(10_000), (root) => {
    dir = root.dir;
    assert.deepEqual(readDirIn(root, '/', ''), []);
    assert.equal(statFileIn(root, '/').path, '');
    assert.throws(() => readDirIn(root, '/x', ''), { message: 'open /x: no such file or directory' });
    assert.throws(() => readFileIn(root, 'f', undefined), { message: 'open f: no such file or directory' });
  });
  assert.ok(!existsSync(dir));
});
