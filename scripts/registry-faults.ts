// Pushes, pulls, exports caches and imports them through a registry that drops, delays, truncates or refuses one request
// in 20, and whose tokens live two seconds. Prints what happened, and fails when a build did. Needs root; see --help.
import { parseArgs } from 'node:util';
import { runRegistryFaults } from '../test/integration/registry-faults.ts';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '200' },
    'one-in': { type: 'string', default: '20' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  process.stdout.write('scripts/registry-faults.ts [--operations 200] [--one-in 20] [--seed N]\n');
  process.exit(0);
}

const start = Date.now();
const { failures, ...numbers } = await runRegistryFaults({
  operations: Number(values.operations),
  oneIn: Number(values['one-in']),
  seed: Number(values.seed),
  log: (line) => process.stdout.write(`${line}\n`),
});
const seconds = Math.round((Date.now() - start) / 1000);
process.stdout.write(`${JSON.stringify({ seed: Number(values.seed), seconds, ...numbers })}\n`);
process.stdout.write(failures.length === 0 ? 'nothing failed\n' : `${failures.length} failures\n`);
process.exit(failures.length === 0 ? 0 : 1);
