import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import type { FlagValues } from '../base/flags.ts';
import { createLogger, type Logger } from '../base/log.ts';
import type { Client } from '../client/client.ts';
import type { TlsFiles } from '../client/types.ts';

/** What a command works with. */
export interface CommandContext {
  readonly flags: FlagValues;
  readonly log: Logger;
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal;
}

const EXIT_SIGNALED = 130;
/** How a daemon and a state directory are named here. */
export const DAEMON_WORDS = { address: '--addr or BUILDKIT_HOST', root: '--root' };

/** Runs a command to its end: signals, errors and the exit code are dealt with here. */
export async function runCommand(
  name: string,
  load: (() => Promise<(context: CommandContext) => Promise<void>>) | undefined,
  flags: FlagValues,
): Promise<void> {
  const abort = new AbortController();
  let signals = 0;
  const onSignal = (): void => {
    if (++signals > 1) process.exit(EXIT_SIGNALED);
    abort.abort(new BuildError('context canceled', { code: Code.canceled }));
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  // A reader that has gone away, as `head` does, is no crash.
  process.stdout.on('error', () => {});
  process.stderr.on('error', () => {});
  try {
    const log = logger(flags);
    if (!load) throw new BuildError(`${name} is not built yet`, { code: Code.unimplemented });
    const run = await load();
    await run({ flags, log, signal: abort.signal });
  } catch (error) {
    const { printError } = await import('./print-error.ts');
    printError(error, flags.bool('debug'));
    process.exitCode = 1;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

function logger(flags: FlagValues): Logger {
  const format = flags.string('log-format') || 'text';
  if (format !== 'text' && format !== 'json')
    throw invalidArgument(`unsupported log type ${JSON.stringify(format)}`);
  const write = (line: string): void => void process.stderr.write(line);
  return createLogger({ level: flags.bool('debug') ? 'debug' : 'info', format, write });
}

/** The client that the global flags ask for; with `--wait` it answers already. */
export async function openClient(context: CommandContext, address?: string): Promise<Client> {
  const { flags, signal } = context;
  const { connect } = await import('../client/client.ts');
  const timeoutMs = flags.number('timeout') * 1000;
  const tls = await tlsFiles(flags);
  const client = connect(address ?? flags.string('addr'), { signal, timeoutMs, ...(tls && { tls }) });
  if (flags.bool('wait')) {
    const limit = timeoutMs > 0 ? AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) : signal;
    await client.wait({ signal: limit });
  }
  return client;
}

async function tlsFiles(flags: FlagValues): Promise<TlsFiles | undefined> {
  const dir = flags.string('tlsdir');
  const given = { ca: flags.string('tlscacert'), cert: flags.string('tlscert'), key: flags.string('tlskey') };
  const any = given.ca !== '' || given.cert !== '' || given.key !== '';
  if (dir !== '' && any)
    throw invalidArgument('cannot specify tlsdir and tlscacert/tlscert/tlskey at the same time');
  if (dir === '' && !any) return undefined;
  const files = dir === '' ? given : await tlsDir(dir);
  const serverName = flags.string('tlsservername');
  return {
    ...(serverName === '' ? {} : { serverName }),
    ...(files.ca === '' ? {} : { ca: files.ca }),
    ...(files.cert === '' ? {} : { cert: files.cert }),
    ...(files.key === '' ? {} : { key: files.key }),
  };
}

async function tlsDir(dir: string): Promise<{ ca: string; cert: string; key: string }> {
  const { existsSync } = await import('node:fs');
  const { join } = await import('node:path');
  const oneOf = (first: string, second: string): string => {
    for (const name of [first, second]) if (existsSync(join(dir, name))) return join(dir, name);
    throw invalidArgument(`directory did not contain one of the needed files: ${first} or ${second}`);
  };
  return {
    ca: oneOf('ca.pem', 'ca.crt'),
    cert: oneOf('cert.pem', 'tls.crt'),
    key: oneOf('key.pem', 'tls.key'),
  };
}
