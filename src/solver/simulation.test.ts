// The solver with random graphs, jobs, cancels, failures and caches: `testing/sim` says what must hold.
// `node scripts/simulate-solver.ts` does the same with more seeds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MUTANTS } from '../testing/sim/mutants.ts';
import { simulateApart } from '../testing/sim/simulate.ts';

const SEEDS = 500;
/** Every fault shows with one of the first so many seeds. */
const SEEDS_FOR_MUTANTS = 300;

test(`${SEEDS} seeds break no rule`, async () => {
  const half = SEEDS / 2;
  const parts = await Promise.all([
    simulateApart({ from: 1, to: half }),
    simulateApart({ from: half + 1, to: SEEDS }),
  ]);
  assert.deepEqual(
    parts.flatMap(({ failures }) => failures),
    [],
  );
  const sum = (name: string): number => parts.reduce((total, { sums }) => total + (sums[name] ?? 0), 0);
  assert.equal(sum('seeds'), SEEDS);
  for (const name of ['solved', 'failed', 'canceled', 'loads'])
    assert.ok(sum(name) >= SEEDS / 4, `${name} only ${sum(name)} times: not much is simulated`);
});

test('a seed tells the same story every time', async () => {
  const asked = { from: 1, to: 10, outcomes: true };
  const [one, two] = [await simulateApart(asked), await simulateApart(asked)];
  assert.equal(one.outcomes.length, 10);
  assert.deepEqual(one, two);
});

test('faults in the solver are found', async (t) => {
  for (const { name } of MUTANTS) {
    await t.test(name, async () => {
      const { failures } = await simulateApart({ from: 1, to: SEEDS_FOR_MUTANTS, mutant: name });
      assert.equal(failures.length, 1, 'no seed finds it');
      assert.doesNotMatch(failures[0] ?? '', /mutant "/);
    });
  }
});
