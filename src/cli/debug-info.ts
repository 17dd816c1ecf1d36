import { type CommandContext, openClient } from './context.ts';
import { BLANKS, tabulate } from './table.ts';
import { parseTemplate } from './template.ts';

/** `buildctl debug info` (FEATURES L18). */
export async function runInfo(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  const format = flags.string('format');
  const template = format === '' ? undefined : parseTemplate(format);
  using client = await openClient(context);
  const { buildkitVersion } = await client.info({ signal });
  const { dockerfileVersion, ...version } = buildkitVersion;
  if (template) {
    const json = { ...version, ...(dockerfileVersion === '' ? {} : { dockerfileVersion }) };
    process.stdout.write(`${template({ buildkitVersion: json })}\n`);
    return;
  }
  const lines = [`BuildKit:\t${version.package} ${version.version} ${version.revision}\n`];
  if (dockerfileVersion !== '') lines.push(`Dockerfile:\t${dockerfileVersion}\n`);
  process.stdout.write(tabulate(lines.join(''), BLANKS));
}
