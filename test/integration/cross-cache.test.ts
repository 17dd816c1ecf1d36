// What scripts/cross-cache.ts prints; with another daemon (OTHER_BUILDKITD, OTHER_BUILDCTL) in both directions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crossCaches, type Side } from './cross-cache.ts';
import { BUILDCTL, BUILDKITD } from './harness.ts';

const { OTHER_BUILDKITD, OTHER_BUILDCTL } = process.env;
const ours: Side = { name: 'ours', buildkitd: BUILDKITD, buildctl: BUILDCTL };

test('every kind of cache gives all steps of the same build to a daemon that has nothing', async () => {
  const pairs: [Side, Side][] = [[ours, ours]];
  if (OTHER_BUILDKITD && OTHER_BUILDCTL) {
    const other = { name: 'other', buildkitd: OTHER_BUILDKITD, buildctl: OTHER_BUILDCTL };
    pairs.push([ours, other], [other, ours]);
  }
  const rows = await crossCaches(pairs, () => {});
  assert.equal(rows.length, 14 * pairs.length);
  for (const { kind, mode, from, to, same, changed } of rows) {
    const row = `${kind} ${mode} ${from} ${to}`;
    assert.deepEqual(same, { cached: 14, steps: 14 }, row);
    // What comes before the change, where the cache has the first stage, too; the tools always.
    assert.ok(changed.cached >= (kind === 'registry' && mode === 'max' ? 7 : 2), `${row}: ${changed.cached}`);
  }
});
