import { invalidArgument } from '../base/errors.ts';
import { updateHistory } from '../client/history.ts';
import {
  BuildHistoryRequest,
  type BuildResultInfo,
  ControlDefinition,
  type Descriptor,
} from '../pb/control.ts';
import { eventType } from './build-event.ts';
import { type CommandContext, openClient } from './context.ts';

/** `buildctl debug monitor` (FEATURES L18): until it is interrupted. */
export async function runMonitor(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  using client = await openClient(context);
  const control = await client.service(ControlDefinition);
  const ActiveOnly = !flags.bool('completed');
  const request = BuildHistoryRequest.create({ ActiveOnly, Ref: flags.string('ref') });
  for await (const event of control.listenBuildHistory(request, { signal })) {
    const { record } = event;
    const lines = [`event: ${eventType(event)} ref:${record?.Ref ?? ''}`];
    if (record) {
      if (record.numTotalSteps !== 0) lines.push(`  cache: ${record.numCachedSteps}/${record.numTotalSteps}`);
      if (record.numWarnings !== 0) lines.push(`  warnings: ${record.numWarnings}`);
      if (record.logs) lines.push(`  logs: ${descriptorText(record.logs)}`);
      if (record.trace) lines.push(`  trace: ${descriptorText(record.trace)}`);
      if (record.Result) lines.push(...resultLines(record.Result, '  '));
      for (const [key, result] of Object.entries(record.Results))
        lines.push(...resultLines(result, `  [${key}] `));
    }
    process.stdout.write(`${lines.join('\n')}\n`);
  }
}

function resultLines({ Results, ResultDeprecated, Attestations }: BuildResultInfo, indent: string): string[] {
  const results = Results.size > 0 ? [...Results.values()] : ResultDeprecated ? [ResultDeprecated] : [];
  return [
    ...results.map((result) => `${indent}descriptor: ${descriptorText(result)}`),
    ...Attestations.map((one) => `${indent}attestation: ${descriptorText(one)}`),
  ];
}

function descriptorText({ mediaType, digest, size, annotations }: Descriptor): string {
  const parts = [
    `media_type:${JSON.stringify(mediaType)}`,
    `digest:${JSON.stringify(digest)}`,
    `size:${size}`,
  ];
  for (const [key, value] of Object.entries(annotations).sort(([a], [b]) => (a < b ? -1 : 1)))
    parts.push(`annotations:{key:${JSON.stringify(key)} value:${JSON.stringify(value)}}`);
  return parts.join(' ');
}

/** `buildctl debug ctl` (FEATURES L18). */
export async function runCtl(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  const [ref] = flags.args;
  if (ref === undefined) throw invalidArgument('build ref must be specified');
  const pin = flags.bool('pin');
  const unpin = flags.bool('unpin');
  const isDelete = flags.bool('delete');
  if (!pin && !unpin && !isDelete) throw invalidArgument('must specify one of --pin, --unpin, --delete');
  if (pin && unpin) throw invalidArgument('cannot specify both --pin and --unpin');
  if (isDelete && (pin || unpin)) throw invalidArgument('cannot specify --delete with --pin or --unpin');
  using client = await openClient(context);
  await updateHistory(client, ref, { pinned: pin, delete: isDelete }, { signal });
}
