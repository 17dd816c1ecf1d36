import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { StoreCounts, StoreFinding } from '../client/types.ts';
import { type CommandContext, DAEMON_WORDS, openClient } from './context.ts';
import { parseTemplate } from './template.ts';

/** What was found and not repaired. */
const EXIT_DAMAGED = 1;

/**
 * `buildctl debug fsck`: checks the store of a daemon that runs or, with `--root`, of one that does not: then a private
 * daemon holds the lock on the root meanwhile.
 */
export async function runFsck(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  const format = flags.string('format');
  const template = format === '' ? undefined : parseTemplate(format);
  const root = flags.string('root');
  await using own = root === '' ? undefined : await privateDaemon(context, root);
  using client = await openClient(context, own?.address);
  const findings: StoreFinding[] = [];
  let counts: StoreCounts | undefined;
  const options = { deep: flags.bool('deep'), repair: flags.bool('repair'), signal };
  try {
    for await (const event of client.checkStore(options)) {
      if (event.counts) counts = event.counts;
      if (!event.finding) continue;
      findings.push(event.finding);
      if (!template) process.stdout.write(findingLine(event.finding));
    }
  } catch (error) {
    throw own?.explain(explained(error, client.address)) ?? explained(error, client.address);
  }
  const open = findings.filter(({ repaired }) => !repaired).length;
  if (template) process.stdout.write(`${template({ findings, counts: counts ?? null })}\n`);
  else process.stdout.write(summary(findings, counts, options.repair));
  if (open > 0) process.exitCode = EXIT_DAMAGED;
}

async function privateDaemon(context: CommandContext, root: string) {
  const { openPrivateDaemon } = await import('../client/private-daemon.ts');
  return await openPrivateDaemon({ root, words: DAEMON_WORDS }, context.signal);
}

function findingLine({ kind, id, problem, leftover, repaired, failure }: StoreFinding): string {
  const outcome = repaired ? ': repaired' : failure === '' ? '' : `: not repaired: ${failure}`;
  return `${leftover ? 'leftover' : 'damaged'} ${kind} ${id}: ${problem}${outcome}\n`;
}

function summary(
  findings: readonly StoreFinding[],
  counts: StoreCounts | undefined,
  repair: boolean,
): string {
  const { records = 0, keys = 0, leases = 0, snapshots = 0, blobs = 0 } = counts ?? {};
  const looked = `checked ${records} records, ${keys} cache keys, ${leases} leases, ${snapshots} snapshots, ${blobs} blobs`;
  if (findings.length === 0) return `${looked}: nothing is wrong\n`;
  const leftovers = findings.filter(({ leftover }) => leftover).length;
  const repaired = findings.filter((one) => one.repaired).length;
  const found = `${findings.length - leftovers} damaged, ${leftovers} left over`;
  return `${looked}: ${found}, ${repaired} repaired${repair || repaired > 0 ? '' : ' (--repair mends them)'}\n`;
}

/** Another BuildKit has no such call. */
function explained(error: unknown, address: string): unknown {
  if (hasCode(error, Code.unimplemented))
    return new BuildError(`the daemon at ${address} cannot check its store`, {
      code: Code.unimplemented,
      cause: error,
      hint: 'debug fsck is for daemons of buildkit-ts',
    });
  if (hasCode(error, Code.unavailable))
    return new BuildError(BuildError.from(error).message, {
      code: Code.unavailable,
      cause: error,
      hint: 'give the state directory with --root to check the store of a daemon that does not run',
    });
  return error;
}
