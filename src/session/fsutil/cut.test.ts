import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { placeToCut } from './cut.ts';

const base = mkdtempSync(join(tmpdir(), 'cut-'));
after(() => rmSync(base, { recursive: true, force: true }));
const signal = new AbortController().signal;

let trees = 0;
/** Files `000`, `001`, … */
function tree(files: number): string {
  const root = join(base, String(trees++));
  mkdirSync(root);
  for (let i = 0; i < files; i++) writeFileSync(join(root, name(i)), '');
  return root;
}

const name = (i: number): string => String(i).padStart(5, '0');

test('a large tree is cut in the middle, a small one is not', async () => {
  assert.equal(await placeToCut(tree(999), signal), undefined);
  assert.equal(await placeToCut(tree(1000), signal), name(500));
  const cut = Number(await placeToCut(tree(5000), signal));
  assert.ok(cut >= 2490 && cut <= 2510, `${cut}`);
});

test('the names of a file stay on one side, and are not the place', async () => {
  const root = tree(1000);
  linkSync(join(root, name(450)), join(root, `${name(560)}-again`));
  assert.equal(await placeToCut(root, signal), name(449));
  linkSync(join(root, name(430)), join(root, `${name(449)}-again`));
  // 431 to 449 are between the names of one file, 451 to 560 between those of the other.
  assert.equal(await placeToCut(root, signal), name(561));
  linkSync(join(root, name(0)), join(root, name(1000)));
  assert.equal(await placeToCut(root, signal), undefined);
});

test('it ends with its signal', async () => {
  await assert.rejects(placeToCut(tree(1000), AbortSignal.abort(new Error('enough'))), { message: 'enough' });
});
