// Thread that simulates seeds, also on a solver with a fault in it. In a thread of its own, where no test runner
// watches every promise.
import { readFileSync } from 'node:fs';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { mutated, MUTANTS } from './mutants.ts';
import type { Outcome } from './run.ts';

export interface Asked {
  readonly from: number;
  readonly to: number;
  /** Name of a fault to put in; its first broken rule is enough. */
  readonly mutant?: string;
  /** Posts every outcome, not only sums. */
  readonly outcomes?: boolean;
}

export interface Told {
  readonly failures: readonly string[];
  readonly sums: Readonly<Record<string, number>>;
  readonly outcomes: readonly Outcome[];
}

const asked = workerData as Asked;
const mutant = MUTANTS.find(({ name }) => name === asked.mutant);
if (mutant) {
  registerHooks({
    load: (url, context, next) => {
      if (!url.endsWith(`/solver/${mutant.file}`)) return next(url, context);
      const source = mutated(readFileSync(fileURLToPath(url), 'utf8'), mutant);
      return { format: 'module', shortCircuit: true, source: stripTypeScriptTypes(source) };
    },
  });
}

function* seeds(): Generator<number> {
  if (mutant) yield mutant.seed;
  for (let seed = asked.from; seed <= asked.to; seed++) yield seed;
}

const failures: string[] = [];
let unhandled: unknown;
process.on('unhandledRejection', (error) => {
  unhandled = error;
});

const { simulate } = await import('./run.ts');
const sums: Record<string, number> = {
  seeds: 0,
  solved: 0,
  failed: 0,
  canceled: 0,
  execs: 0,
  loads: 0,
  turns: 0,
};
const outcomes: Outcome[] = [];
for (const seed of seeds()) {
  if (mutant && failures.length > 0) break;
  try {
    const outcome = await simulate(seed);
    if (unhandled) throw new Error(`seed ${seed}: nobody handles ${String(unhandled)}`);
    for (const [name, value] of Object.entries(outcome))
      if (typeof value === 'number' && name !== 'seed') sums[name] = (sums[name] ?? 0) + value;
    if (asked.outcomes) outcomes.push(outcome);
  } catch (error) {
    failures.push(error instanceof Error ? error.message : String(error));
    unhandled = undefined;
  }
  sums.seeds = (sums.seeds ?? 0) + 1;
}
parentPort?.postMessage({ failures, sums, outcomes } satisfies Told);
