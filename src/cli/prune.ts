import { bytesText } from '../client/units.ts';
import { type CommandContext, openClient } from './context.ts';
import { TABS, tabulate } from './table.ts';
import { parseTemplate } from './template.ts';
import { USAGE_HEADER, usageBlock, usageJson, usageRow } from './usage.ts';

const MB = 1e6;

/** `buildctl prune` (FEATURES L16). */
export async function runPrune(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  const format = flags.string('format');
  const template = format === '' ? undefined : parseTemplate(format);
  const verbose = flags.bool('verbose');
  using client = await openClient(context);
  const removed = client.prune(
    {
      filters: flags.strings('filter'),
      all: flags.bool('all'),
      keepDuration: flags.duration('keep-duration'),
      reservedSpace: flags.number('keep-storage-min') * MB,
      maxUsedSpace: flags.number('keep-storage') * MB,
      minFreeSpace: flags.number('free-storage') * MB,
    },
    { signal },
  );
  let total = 0;
  let header = USAGE_HEADER;
  for await (const record of removed) {
    total += record.size;
    if (template) process.stdout.write(`${template(usageJson(record))}\n`);
    else if (verbose) process.stdout.write(tabulate(usageBlock(record), TABS));
    else {
      process.stdout.write(tabulate(header + usageRow(record), TABS));
      header = '';
    }
  }
  if (!template) process.stdout.write(tabulate(`Total:\t${bytesText(total)}\n`, TABS));
}
