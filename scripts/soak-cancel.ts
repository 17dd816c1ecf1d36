// Rounds of parallel builds that share steps and are cancelled at random, against a real daemon.
//   node scripts/soak-cancel.ts [--rounds 50] [--builds 40] [--seed 1] [--max-parallelism 0]
// Ends with status 1 when a build hangs, a step runs twice at once, or anything runs or stays mounted afterwards.
// Needs root, a runtime and `npm run build`, as the integration tests do.
import { parseArgs } from 'node:util';
import { cancelRounds } from '../test/integration/cancel-rounds.ts';
import { Daemon, Registry } from '../test/integration/harness.ts';

const text = (value: string) => ({ type: 'string', default: value }) as const;
const { values } = parseArgs({
  options: { rounds: text('50'), builds: text('40'), seed: text('1'), 'max-parallelism': text('0') },
});
const started = performance.now();
const seconds = (): string => ((performance.now() - started) / 1000).toFixed(0);

await using registry = await Registry.start();
await registry.pushBusybox();
await using daemon = await Daemon.start({
  config: `max-parallelism = ${values['max-parallelism']}\n${registry.config}`,
});
const asked = { rounds: Number(values.rounds), builds: Number(values.builds), seed: Number(values.seed) };
const sums = await cancelRounds(daemon, asked, (round, { done, canceled, steps, killed }) =>
  console.log(
    `round ${round}: ${done} done, ${canceled} cancelled, ${steps} steps, ${killed} killed, ${seconds()} s`,
  ),
);
console.log(`no build hung, nothing ran twice, nothing ran on: ${JSON.stringify(sums)}`);
