// Builds the same twice, on two empty daemons, from two folders, at two times, with SOURCE_DATE_EPOCH, and prints which
// outputs are the same bytes. BUILDKITD and BUILDCTL name other programs than those of bin/. Needs root.
import { compareBuilds, table } from '../test/integration/reproducibility.ts';

const rows = await compareBuilds((line) => process.stderr.write(`${line}\n`));
process.stdout.write(`${table(rows)}\n`);
process.exit(rows.every(({ first, second }) => first === second) ? 0 : 1);
