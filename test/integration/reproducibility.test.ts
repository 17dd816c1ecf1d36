// What scripts/reproducibility.ts prints.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareBuilds } from './reproducibility.ts';

test('two daemons make the same bytes of the same build, by every exporter and compression', async () => {
  const rows = await compareBuilds(() => {});
  const different = rows.filter(({ first, second }) => first !== second);
  assert.deepEqual(different, []);
  assert.ok(rows.length >= 22);
  for (const { first } of rows) assert.match(first, /^sha256:[0-9a-f]{64}$/);
});
