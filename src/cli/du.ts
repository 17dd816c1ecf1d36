import type { DiskUsagePage, UsageInfo } from '../client/types.ts';
import { bySize } from '../client/wire.ts';
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
  const usage = await collect(client.diskUsagePages({ filters, holders: flags.bool('verbose'), signal }));
  const { records, holders, disk } = usage;
  if (template) {
    process.stdout.write(`${template(records.length > 0 ? records.map(usageJson) : null)}\n`);
    return;
  }
  const list = flags.bool('verbose')
    ? records.map((record) => usageBlock(record, holders.get(record.id))).join('')
    : USAGE_HEADER + records.map(usageRow).join('');
  process.stdout.write(tabulate(list, TABS));
  if (filters.length === 0) process.stdout.write(tabulate(usageSummary(records, disk), TABS));
}

async function collect(pages: AsyncIterable<DiskUsagePage>) {
  const records: UsageInfo[] = [];
  const holders = new Map<string, readonly string[]>();
  let disk: DiskUsagePage['disk'];
  for await (const page of pages) {
    for (const record of page.records) records.push(record);
    for (const [id, reasons] of page.holders) holders.set(id, reasons);
    disk = page.disk ?? disk;
  }
  return { records: records.sort(bySize), holders, disk };
}
