// Simulates the solver with many seeds, then with a fault put in for each of the mutants.
//   node scripts/simulate-solver.ts [--seeds 10000] [--from 1] [--threads 2] [--no-mutants]
// `--seeds 1 --from N` repeats seed N. Ends with status 1 when a rule is broken, or a fault is not found.
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { MUTANTS } from '../src/testing/sim/mutants.ts';
import { simulateApart } from '../src/testing/sim/simulate.ts';
import type { Told } from '../src/testing/sim/worker.ts';

/** Seeds that a thread does at a time. */
const BATCH = 250;
const SEEDS_FOR_MUTANTS = 300;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    from: { type: 'string', default: '1' },
    threads: { type: 'string', default: `${availableParallelism()}` },
    'no-mutants': { type: 'boolean', default: false },
  },
});
const first = Number(values.from);
const last = first + Number(values.seeds) - 1;
const sums: Record<string, number> = {};
const failures: string[] = [];
const started = performance.now();
let next = first;

async function work(): Promise<void> {
  while (next <= last) {
    const from = next;
    next += BATCH;
    count(await simulateApart({ from, to: Math.min(from + BATCH - 1, last) }));
  }
}

function count(told: Told): void {
  failures.push(...told.failures);
  for (const failure of told.failures) console.log(failure);
  for (const [name, value] of Object.entries(told.sums)) sums[name] = (sums[name] ?? 0) + value;
}

await Promise.all(Array.from({ length: Number(values.threads) }, work));
console.log(`seeds ${first} to ${last}: ${failures.length} broken rules`);
console.log(
  Object.entries(sums)
    .map(([name, value]) => `${name} ${value}`)
    .join(', '),
);

let missed = 0;
for (const { name } of values['no-mutants'] ? [] : MUTANTS) {
  const told = await simulateApart({ from: 1, to: SEEDS_FOR_MUTANTS, mutant: name });
  const found = told.failures[0];
  if (found === undefined) missed++;
  console.log(
    `${found === undefined ? 'NOT FOUND' : 'found'}: ${name}${found ? ` (${found.slice(0, 90)})` : ''}`,
  );
}
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`);
if (failures.length > 0 || missed > 0) process.exitCode = 1;
