import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { createLogger, type Logger } from '../base/log.ts';
import { limitMallocArenas } from '../sys/memory.ts';
import { enterMountNamespace } from '../sys/namespace.ts';
import { isStandalone, textAsset } from '../sys/standalone.ts';
import { parseDaemonArgs } from './config.ts';
import type { DaemonParts } from './daemon.ts';

const EXIT_FAILURE = 1;
/** Heaps of the C library: each one more keeps memory that freed buffers would give back. */
const MALLOC_ARENAS = 2;

/** Carried by a standalone executable, `worker.cjs` beside a bundle, or the source file. */
function workerProgram(): DaemonParts['worker'] {
  if (isStandalone()) return { source: textAsset('worker.cjs') };
  return {
    file:
      typeof __dirname === 'string'
        ? join(__dirname, 'worker.cjs')
        : fileURLToPath(new URL('worker-entry.ts', import.meta.url)),
  };
}

async function main(): Promise<void> {
  const args = await parseDaemonArgs(process.argv.slice(2), process.env);
  if (args.kind === 'text') {
    process.stdout.write(args.text);
    return;
  }
  if (args.kind === 'usage') {
    process.stderr.write(args.errorText);
    process.stdout.write(args.text);
    process.exitCode = args.exitCode;
    return;
  }
  const { config, warnings } = args;
  const log = createLogger({ ...config.log, write: (line) => void process.stderr.write(line) });
  for (const warning of warnings) log.warn(warning);
  if (process.geteuid?.() !== 0) {
    throw new BuildError('rootless mode requires to be executed as the mapped root in a user namespace', {
      hint: 'run buildkitd as root: it makes mounts and containers',
    });
  }
  process.umask(0);
  limitMallocArenas(MALLOC_ARENAS);
  // A standalone executable puts in argv[1] by itself.
  const argv = isStandalone() ? process.argv.toSpliced(1, 1) : process.argv;
  await enterMountNamespace({ argv, execArgv: process.execArgv, env: process.env });
  const { startDaemon } = await import('./daemon.ts');
  const env = process.env;
  const daemon = await startDaemon({
    config,
    log,
    worker: workerProgram(),
    searchPath: env.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    proxy: {
      httpProxy: env.HTTP_PROXY ?? env.http_proxy ?? '',
      httpsProxy: env.HTTPS_PROXY ?? env.https_proxy ?? '',
      noProxy: env.NO_PROXY ?? env.no_proxy ?? '',
      allProxy: env.ALL_PROXY ?? env.all_proxy ?? '',
    },
  });
  for (const address of daemon.addresses) log.info(`running server on ${address.replace(/^\w+:\/\//, '')}`);
  await stopAsked(config.exitWithStdin, log);
  await daemon[Symbol.asyncDispose]();
  log.info('stopped');
  process.exit(0);
}

/** Resolves at the first signal (or the end of stdin, when asked); a third one ends the process at once. */
function stopAsked(withStdin: boolean, log: Logger): Promise<void> {
  return new Promise((resolve) => {
    let count = 0;
    const stop = (why: string): void => {
      count++;
      if (count === 1) log.info('stopping', { why });
      if (count >= 3) process.exit(EXIT_FAILURE);
      resolve();
    };
    process.on('SIGINT', () => stop('SIGINT'));
    process.on('SIGTERM', () => stop('SIGTERM'));
    if (!withStdin) return;
    process.stdin.resume();
    process.stdin.once('end', () => stop('end of input'));
    process.stdin.once('close', () => stop('end of input'));
  });
}

main().catch((error: unknown) => {
  const own = BuildError.from(error);
  process.stderr.write(`buildkitd: ${own.message}\n${own.hint === undefined ? '' : `${own.hint}\n`}`);
  if (!(error instanceof BuildError) && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exit(EXIT_FAILURE);
});
