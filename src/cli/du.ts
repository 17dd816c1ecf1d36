import { type CommandContext, openClient } from './context.ts';
import { TABS, tabulate } from './table.ts';
import { parseTemplate } from './template.ts';
import { USAGE_HEADER, usageBlock, usageJson, usageRow, usageSummary } from './usage.ts';

/** `buildctl du` (FEATURES L15). */
export async function runDiskUsage(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  const filters = flags.strings('filter');
  const format = flags.string('format');
  const template = format === '' ? undefined : parseTemplate(format);
  using client = await openClient(context);
  const records = await client.diskUsage({ filters, signal });
  if (template) {
    process.stdout.write(`${template(records.length > 0 ? records.map(usageJson) : null)}\n`);
    return;
  }
  const list = flags.bool('verbose')
    ? records.map(usageBlock).join('')
    : USAGE_HEADER + records.map(usageRow).join('');
  process.stdout.write(tabulate(list, TABS));
  if (filters.length === 0) process.stdout.write(tabulate(usageSummary(records), TABS));
}
