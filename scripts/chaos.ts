// Kills the daemon at random points of random builds, restarts it, checks the store and builds again; or lets its disk
// fill. Prints what happened, and fails when something is not as it should be. Needs root; see --help.
import { parseArgs } from 'node:util';
import { runChaos } from '../test/integration/chaos.ts';

const { values } = parseArgs({
  options: {
    builds: { type: 'string', default: '500' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    disk: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  process.stdout.write(
    'scripts/chaos.ts [--builds 500] [--seed N] [--disk MIB]\n' +
      '  --disk  puts the state on a loop device of that size, which is filled at random points\n',
  );
  process.exit(0);
}

const start = Date.now();
const summary = await runChaos({
  builds: Number(values.builds),
  seed: Number(values.seed),
  ...(values.disk === undefined ? {} : { diskMiB: Number(values.disk) }),
  log: (line) => process.stdout.write(`${line}\n`),
});
const { failures, ...numbers } = summary;
const seconds = Math.round((Date.now() - start) / 1000);
process.stdout.write(`${JSON.stringify({ seed: Number(values.seed), seconds, ...numbers })}\n`);
process.stdout.write(failures.length === 0 ? 'nothing failed\n' : `${failures.length} failures\n`);
process.exit(failures.length === 0 ? 0 : 1);
