// Writes caches with one daemon and reads them with another that has nothing, and prints for each kind of cache how many
// steps were taken from it: of the same build, and of one with a changed file and a changed last step. Programs of ours
// are those of bin/ (or BUILDKITD and BUILDCTL), those of the other side OTHER_BUILDKITD and OTHER_BUILDCTL. Needs root.
import {
  type CrossCacheRow,
  crossCaches,
  crossCacheTable,
  type Side,
} from '../test/integration/cross-cache.ts';
import { BUILDCTL, BUILDKITD } from '../test/integration/harness.ts';

const { OTHER_BUILDKITD, OTHER_BUILDCTL, OTHER_NAME = 'upstream' } = process.env;
const ours: Side = { name: 'ours', buildkitd: BUILDKITD, buildctl: BUILDCTL };
const other: Side | undefined =
  OTHER_BUILDKITD && OTHER_BUILDCTL
    ? { name: OTHER_NAME, buildkitd: OTHER_BUILDKITD, buildctl: OTHER_BUILDCTL }
    : undefined;
const pairs: [Side, Side][] = other
  ? [
      [other, other],
      [other, ours],
      [ours, other],
      [ours, ours],
    ]
  : [[ours, ours]];

const rows = await crossCaches(pairs, (line) => process.stderr.write(`${line}\n`));
process.stdout.write(`${crossCacheTable(rows)}\n`);
process.exit(rows.every(asGood) ? 0 : 1);

/** No fewer steps than in a cache that the other side writes for itself; without another side, all of the same build. */
function asGood(row: CrossCacheRow): boolean {
  const own = rows.find(
    ({ kind, mode, from, to }) =>
      kind === row.kind && mode === row.mode && from === OTHER_NAME && to === OTHER_NAME,
  );
  if (!own) return row.same.cached === row.same.steps;
  return row.same.cached >= own.same.cached && row.changed.cached >= own.changed.cached;
}
