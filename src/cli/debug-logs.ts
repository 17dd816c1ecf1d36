import { BuildError, invalidArgument } from '../base/errors.ts';
import type { Client } from '../client/client.ts';
import { openDisplay, type ProgressOutput } from '../client/progress/display.ts';
import { statusFromWire } from '../client/wire.ts';
import { BuildHistoryRequest, ControlDefinition } from '../pb/control.ts';
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
    const control = await client.service(ControlDefinition);
    for await (const response of control.status({ Ref: ref }, { signal }))
      display.update(statusFromWire(response));
  } finally {
    display.finish();
  }
}

async function showTrace(client: Client, ref: string, signal: AbortSignal): Promise<void> {
  const control = await client.service(ControlDefinition);
  // The daemon makes the trace when somebody asks for it.
  await control.updateBuildHistory({ Ref: ref, Finalize: true, Pinned: false, Delete: false }, { signal });
  const request = BuildHistoryRequest.create({ Ref: ref, EarlyExit: true });
  for await (const { record } of control.listenBuildHistory(request, { signal })) {
    if (!record?.trace) throw new BuildError(`ref ${ref} does not have trace`);
    await writeBlob(client, record.trace.digest, signal);
    return;
  }
  throw new BuildError(`ref ${ref} not found`);
}
