import { once } from 'node:events';
import { digestProblem } from '../base/digest.ts';
import { invalidArgument } from '../base/errors.ts';
import type { Client } from '../client/client.ts';
import { readBlob } from '../client/history.ts';
import { type CommandContext, openClient } from './context.ts';

/** `buildctl debug get` (FEATURES L18). */
export async function runGet(context: CommandContext): Promise<void> {
  const [digest] = context.flags.args;
  if (digest === undefined) throw invalidArgument('blob digest must be specified');
  const problem = digestProblem(digest);
  if (problem !== undefined) throw invalidArgument(problem);
  using client = await openClient(context);
  await writeBlob(client, digest, context.signal);
}

/** Copies a blob of the daemon to the standard output. */
export async function writeBlob(client: Client, digest: string, signal: AbortSignal): Promise<void> {
  for await (const data of readBlob(client, digest, { signal }))
    if (!process.stdout.write(data)) await once(process.stdout, 'drain', { signal });
}
