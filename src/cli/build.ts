import { BuildError, invalidArgument } from '../base/errors.ts';
import type { FlagValues } from '../base/flags.ts';
import { openDisplay, type ProgressDisplay, resetTime } from '../client/progress/display.ts';
import type { BuildDaemon } from '../client/private-daemon.ts';
import { parseEntitlement } from '../daemon/entitlements.ts';
import type { ProgressOutput } from '../client/progress/show-types.ts';
import { parseGitRef } from '../giturl/git-ref.ts';
import type { SolveRequest, SolveResult } from '../client/solve-types.ts';
import type { BuildExplanation, SolveStatus } from '../client/types.ts';
import {
  checkAllow,
  parseLocals,
  parseOciLayouts,
  parseOpts,
  parseSecret,
  parseSsh,
  readSourcePolicy,
  refuseLater,
} from './build-options.ts';
import { parseExportCache, parseImportCache, type Warn } from './cache-options.ts';
import { type CommandContext, DAEMON_WORDS, openClient } from './context.ts';
import { parseOutput } from './outputs.ts';
import { readStdin } from './stdin.ts';

/** `buildctl build` (FEATURES L3-L14). `shell`: open one in the step that fails. */
export async function runBuild(context: CommandContext, { shell = false } = {}): Promise<void> {
  const { flags, signal } = context;
  const warn = (text: string): void => context.log.warn(text);
  const request = await buildRequest(flags, warn);
  await using daemon = await daemonOf(context);
  using client = await openClient(context, daemon.address);
  const { newSessionId } = await import('../session/host/host.ts');
  const ref = newSessionId();
  const explanation = explanationOf(flags);
  try {
    const result = await showing(context, async ({ update, pause }) => {
      const debug = await shellFor(flags, shell, pause);
      const onStatus = (status: SolveStatus): void => {
        debug?.follow(status);
        update(status);
      };
      const more = { ...explanation.request, ...debug?.request };
      return client.solve({ ...request, ref, onStatus, onWarning: warn, signal, ...more });
    });
    await report(flags, result);
  } catch (error) {
    throw daemon.explain(error);
  } finally {
    await explanation.write();
    const refFile = flags.string('ref-file');
    if (refFile !== '') (await import('./metadata-file.ts')).writeAtomically(refFile, ref);
  }
}

/**
 * The daemon of `--addr` or `BUILDKIT_HOST`, else the one at the default address if it answers,
 * else a private one that lives as long as this process does.
 */
async function daemonOf({ flags, signal }: CommandContext): Promise<BuildDaemon> {
  const { openDaemon } = await import('../client/private-daemon.ts');
  const root = flags.string('root');
  return await openDaemon({
    address: flags.string('addr'),
    asked: flags.isSet('addr') || (process.env.BUILDKIT_HOST ?? '') !== '' || flags.bool('wait'),
    private: {
      ...(root === '' ? {} : { root }),
      allow: flags.strings('allow').map((text) => parseEntitlement(text).name),
    },
    words: DAEMON_WORDS,
    onNotice: (text) => void process.stderr.write(`buildctl: ${text}\n`),
    signal,
  });
}

/** `buildctl debug shell`: a build with `--debug-shell`. */
export function runDebugShell(context: CommandContext): Promise<void> {
  return runBuild(context, { shell: true });
}

async function shellFor(flags: FlagValues, asked: boolean, pause: () => void) {
  if (!asked && !flags.bool('debug-shell') && !flags.isSet('debug-shell-program')) return undefined;
  return (await import('./debug-shell.ts')).debugShell(flags, pause);
}

/** Takes the explanation of a build, to be shown when all progress is. */
function explanationOf(flags: FlagValues): {
  readonly request: Pick<SolveRequest, 'onExplain'>;
  readonly write: () => Promise<void>;
} {
  const asked = flags.bool('explain') || flags.isSet('explain-format');
  let told: BuildExplanation | undefined;
  return {
    request: asked ? { onExplain: (explanation) => (told = explanation) } : {},
    write: async () => {
      if (told) (await import('./explain.ts')).writeExplanation(flags, told);
    },
  };
}

/** Everything the flags ask for, checked before a daemon is spoken to. */
async function buildRequest(flags: FlagValues, warn: Warn): Promise<SolveRequest> {
  const { env } = process;
  refuseLater(flags);
  checkAllow(flags.strings('allow'));
  if (flags.isSet('explain-format')) (await import('./explain.ts')).checkFormat(flags);
  const { readFileSync, statSync } = await import('node:fs');
  const [folder, ...more] = flags.args;
  if (more.length > 0) throw invalidArgument(`unexpected argument ${JSON.stringify(more[0])}`);
  const remote = folder !== undefined && isRemote(folder, statSync);
  const shorthand = folder === undefined || remote ? [] : shorthandLocals(folder, flags);
  const frontend = flags.string('frontend') || (folder === undefined ? '' : 'dockerfile.v0');
  const frontendAttrs = parseOpts(flags.strings('opt'), env);
  if (remote) frontendAttrs.context ??= folder;
  if (frontend !== '' && flags.bool('no-cache')) frontendAttrs['no-cache'] = '';
  if (flags.isSet('max-parallelism')) {
    const limit = flags.number('max-parallelism');
    if (limit < 0) throw invalidArgument(`invalid value ${limit} for --max-parallelism: must be 0 or more`);
    frontendAttrs['max-parallelism'] = `${limit}`;
  }
  if (frontendAttrs.requestid !== undefined)
    frontendAttrs['frontend.caps'] ??= 'moby.buildkit.frontend.subrequests';
  const policyFile = flags.string('source-policy-file');
  return {
    ...(policyFile === '' ? {} : { sourcePolicy: readSourcePolicy(policyFile, readFileSync) }),
    ...(frontend === '' ? { definition: await definition(flags.bool('no-cache')) } : { frontend }),
    frontendAttrs,
    localDirs: parseLocals([...shorthand, ...flags.strings('local')], statSync),
    ociLayouts: parseOciLayouts(flags.strings('oci-layout'), statSync),
    exports: flags.strings('output').map((text) => parseOutput(text, process.stdout)),
    cacheExports: flags.strings('export-cache').map((text) => parseExportCache(text, warn)),
    cacheImports: flags.strings('import-cache').map((text) => parseImportCache(text, warn)),
    secrets: flags.strings('secret').map(parseSecret),
    ssh: flags.strings('ssh').map(parseSsh),
    allowedEntitlements: flags.strings('allow'),
    compatibilityVersion: flags.number('compatibility-version'),
  };
}

/** `buildctl build ADDRESS`: a repository or a download is the context. @throws BuildError for a wrong query */
function isRemote(text: string, stat: (path: string) => unknown): boolean {
  const repository = parseGitRef(text);
  if (/^https?:\/\//.test(text)) return true;
  if (!repository) return false;
  try {
    stat(text);
    return false; // a folder that is called like a repository
  } catch {
    return true;
  }
}

/** `buildctl build FOLDER`: the folder is context and home of the Dockerfile, unless `--local` says otherwise. */
function shorthandLocals(folder: string, flags: FlagValues): string[] {
  const given = flags.strings('local').map((local) => local.split('=')[0]);
  return ['context', 'dockerfile'].filter((name) => !given.includes(name)).map((name) => `${name}=${folder}`);
}

async function definition(noCache: boolean): Promise<Uint8Array> {
  const { fstatSync } = await import('node:fs');
  if (fstatSync(0).isCharacterDevice())
    throw invalidArgument('please specify --frontend or pipe LLB definition to stdin');
  const bytes = await readStdin();
  const { digestOf } = await import('../base/digest.ts');
  const { Definition, OpMetadata } = await import('../pb/ops.ts');
  let parsed: ReturnType<typeof Definition.decode>;
  try {
    parsed = Definition.decode(bytes);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse input');
  }
  if (parsed.def.length === 0)
    throw invalidArgument('empty definition sent to build. Specify --frontend instead?');
  if (!noCache) return bytes;
  for (const op of parsed.def) {
    const digest = digestOf(op);
    parsed.metadata[digest] = { ...(parsed.metadata[digest] ?? OpMetadata.create()), ignoreCache: true };
  }
  return Definition.encode(parsed).finish();
}

interface Progress {
  readonly update: (status: SolveStatus) => void;
  /** Paints what there is, and nothing any more. */
  readonly pause: () => void;
}

/** Runs the build with its progress on stderr, and in the trace file when there is one. */
async function showing(
  { flags, log }: CommandContext,
  build: (progress: Progress) => Promise<SolveResult>,
): Promise<SolveResult> {
  const output = process.stderr as ProgressOutput;
  const display = openDisplay(flags.string('progress'), output, process.env, (text) => log.warn(text));
  const trace = await openTrace(flags.string('trace'), (path) => log.info(`tracing logs to ${path}`));
  const moved = resetTime();
  let shown: ProgressDisplay | undefined = display;
  const pause = (): void => {
    shown?.finish();
    shown = undefined;
  };
  const update = (status: SolveStatus): void => {
    const own = moved(status);
    shown?.update(own);
    trace?.add(own);
  };
  try {
    return await build({ update, pause });
  } finally {
    pause();
    trace?.close();
  }
}

interface TraceFile {
  add(status: SolveStatus): void;
  close(): void;
}

async function openTrace(path: string, opened: (path: string) => void): Promise<TraceFile | undefined> {
  if (path === '') return undefined;
  const { closeSync, openSync, writeSync } = await import('node:fs');
  const { statusJson } = await import('../client/progress/rawjson.ts');
  const fd = openSync(path, 'a', 0o600);
  opened(path);
  return { add: (status) => void writeSync(fd, statusJson(status)), close: () => closeSync(fd) };
}

async function report(flags: FlagValues, result: SolveResult): Promise<void> {
  const file = flags.string('metadata-file');
  if (file !== '') (await import('./metadata-file.ts')).writeMetadataFile(file, result.exporterResponse);
  const asked = flags.strings('opt').some((opt) => opt.startsWith('requestid='));
  if (!asked) return;
  const text = result.metadata['result.txt'];
  if (text) process.stdout.write(text);
  else
    for (const [key, value] of Object.entries(result.metadata))
      if (key.startsWith('result.')) process.stdout.write(`${key}\n${Buffer.from(value).toString()}\n`);
}
