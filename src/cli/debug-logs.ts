import { BuildError, invalidArgument } from '../base/errors.ts';
import type { Client } from '../client/client.ts';
import { buildProgress, history, updateHistory } from '../client/history.ts';
import { openDisplay } from '../client/progress/display.ts';
import type { ProgressOutput } from '../client/progress/show-types.ts';
import { type CommandContext, openClient } from './context.ts';
import { writeBlob } from './debug-get.ts';

/** `buildctl debug logs` (FEATURES L18). */
export async function runLogs(context: CommandContext): Promise<void> {
  const { flags } = context;
  const [ref] = flags.args;
  if (ref === undefined) throw invalidArgument('build ref must be specified');
  using client = await openClient(context);
  if (flags.bool('trace')) await showTrace(client, ref, context.signal);
  else await showLog(client, ref, context);
}

async function showLog(client: Client, ref: string, { flags, log, signal }: CommandContext): Promise<void> {
  const output = process.stdout as ProgressOutput;
  const display = openDisplay(flags.string('progress'), output, process.env, (text) => log.warn(text));
  try {
    for await (const status of buildProgress(client, ref, { signal })) display.update(status);
  } finally {
    display.finish();
  }
}

async function showTrace(client: Client, ref: string, signal: AbortSignal): Promise<void> {
  // The daemon makes the trace when somebody asks for it.
  await updateHistory(client, ref, { finalize: true }, { signal });
  for await (const { record } of history(client, { ref }, { signal })) {
    if (!record.trace) throw new BuildError(`ref ${ref} does not have trace`);
    await writeBlob(client, record.trace.digest, signal);
    return;
  }
  throw new BuildError(`ref ${ref} not found`);
}
