import { parseArgs } from '../base/flags.ts';
import { versionLine } from '../base/version.ts';
import { buildctl } from './app.ts';
import type { CommandContext } from './context.ts';

/** Upstream's code for a name that is no command. */
const EXIT_NO_TOPIC = 3;
const DEFAULT_ADDRESS = 'unix:///run/buildkit/buildkitd.sock';

type Run = (context: CommandContext) => Promise<void>;

/** Each command's code is loaded when it runs. */
const COMMANDS: Readonly<Record<string, () => Promise<Run>>> = {
  build: async () => (await import('./build.ts')).runBuild,
  du: async () => (await import('./du.ts')).runDiskUsage,
  prune: async () => (await import('./prune.ts')).runPrune,
  'prune-histories': async () => (await import('./histories.ts')).runPruneHistories,
  'dial-stdio': async () => (await import('./dial-stdio.ts')).runDialStdio,
  'debug workers': async () => (await import('./debug-workers.ts')).runWorkers,
  'debug info': async () => (await import('./debug-info.ts')).runInfo,
  'debug histories': async () => (await import('./histories.ts')).runHistories,
  'debug logs': async () => (await import('./debug-logs.ts')).runLogs,
  'debug get': async () => (await import('./debug-get.ts')).runGet,
  'debug monitor': async () => (await import('./monitor.ts')).runMonitor,
  'debug ctl': async () => (await import('./monitor.ts')).runCtl,
  'debug fsck': async () => (await import('./debug-fsck.ts')).runFsck,
  'debug explain': async () => (await import('./explain.ts')).runExplain,
  'debug shell': async () => (await import('./build.ts')).runDebugShell,
  'debug dump-llb': async () => (await import('./dump-llb.ts')).runDumpLlb,
};

async function main(argv: readonly string[]): Promise<void> {
  const { env } = process;
  const app = buildctl(env.BUILDKIT_HOST || DEFAULT_ADDRESS);
  const parsed = parseArgs(app, argv, env);
  switch (parsed.kind) {
    case 'version':
      process.stdout.write(`${versionLine('buildctl')}\n`);
      return;
    case 'no-topic':
      process.stderr.write(`No help topic for '${parsed.topic}'\n`);
      process.exitCode = EXIT_NO_TOPIC;
      return;
    case 'help': {
      const { helpText } = await import('../base/flags-help.ts');
      process.stdout.write(helpText(parsed.path));
      return;
    }
    case 'usage': {
      const { helpText } = await import('../base/flags-help.ts');
      process.stderr.write(`Incorrect Usage: ${parsed.message}\n\n`);
      if (parsed.path.length === 1) process.stdout.write(helpText(parsed.path));
      process.stderr.write(`error: ${parsed.message}\n`);
      process.exitCode = 1;
      return;
    }
    case 'run': {
      const { runCommand } = await import('./context.ts');
      const name = parsed.path
        .slice(1)
        .map((c) => c.name)
        .join(' ');
      await runCommand(name, COMMANDS[name], parsed.flags);
    }
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
