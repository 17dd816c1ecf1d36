import type { Socket } from 'node:net';
import { BuildError, Code } from '../base/errors.ts';
import { isCommitSha } from '../giturl/git-url.ts';
import { isPassing, pause } from './git-retry.ts';
import { type ChildProcess, findExecutable, killProcessGroup, spawn } from '../sys/spawn.ts';

/** How long git may take to tidy up when it is told to end. */
const STOP_GRACE_MS = 10_000;
const MAX_OUTPUT_BYTES = 16 << 20;
/** Of the error stream, the end is kept. */
const MAX_ERROR_BYTES = 64 << 10;

type Setting = readonly [key: string, value: string];

export interface GitCliOptions {
  readonly searchPath: string;
  /** Proxies of the daemon. */
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Takes what a command that failed has written. */
  readonly log?: (stream: 1 | 2, data: Uint8Array) => void;
  /** Settings beside the ones that all commands have. They are not seen in the list of processes. */
  readonly settings?: readonly Setting[];
  readonly gitDir?: string;
  readonly workTree?: string;
  readonly sshAuthSock?: string;
  /** Path of a file; '' = keys of servers are not checked. */
  readonly knownHosts?: string;
}

/**
 * Repositories are foreign: no hooks, no transports but the four of the network, nothing in the background that
 * would outlive the step. Settings from here win over those of a repository.
 */
const SAFE: readonly Setting[] = [
  ['protocol.allow', 'never'],
  ...['http', 'https', 'ssh', 'git'].map((name): Setting => [`protocol.${name}.allow`, 'always']),
  ['core.hooksPath', '/dev/null'],
  ['core.fsmonitor', 'false'],
  ['gc.autoDetach', 'false'],
  ['maintenance.autoDetach', 'false'],
  ['init.defaultBranch', 'master'],
];
/** For one fetch from a repository that we have made ourselves. */
export const LOCAL_TRANSPORT: Setting = ['protocol.file.allow', 'always'];

/** Runs git for one step, with a clean environment: nothing of the host's or a user's configuration counts. */
export class GitCli {
  readonly #options: GitCliOptions;

  constructor(options: GitCliOptions) {
    this.#options = options;
  }

  /** The same with other options. */
  with(change: Partial<GitCliOptions>): GitCli {
    return new GitCli({ ...this.#options, ...change });
  }

  /** What the command says, as text without the line's end. */
  async text(...args: readonly string[]): Promise<string> {
    return (await this.run(...args)).toString().trim();
  }

  /** Whether the command succeeds. */
  async succeeds(...args: readonly string[]): Promise<boolean> {
    return (await this.#once(args)).code === 0;
  }

  /**
   * Output of a command. A fetch that the server refuses for its depth or its commit is tried again with less; what
   * fails on the way to a server, or in it, is tried a few times.
   * Aborting the signal ends git and all it has started, and waits for that.
   * @throws BuildError with what git says
   */
  async run(...args: readonly string[]): Promise<Buffer> {
    let wanted = args;
    for (let attempt = 1; ; attempt++) {
      const { code, stdout, stderr } = await this.#once(wanted);
      if (code === 0) return stdout;
      const less = withLess(wanted, stderr);
      if (less) {
        wanted = less;
        attempt--;
        continue;
      }
      this.#options.log?.(1, stdout);
      this.#options.log?.(2, Buffer.from(stderr));
      if (isPassing(wanted, stderr) && (await this.#pause(attempt))) continue;
      throw new BuildError(`git stderr:\n${stderr}: exit status ${code}`);
    }
  }

  #pause(attempt: number): Promise<boolean> {
    const { signal, log } = this.#options;
    return pause(attempt, { signal, tell: (text) => log?.(2, Buffer.from(text)) });
  }

  async #once(args: readonly string[]): Promise<{ code: number; stdout: Buffer; stderr: string }> {
    const { signal } = this.#options;
    signal.throwIfAborted();
    const child = this.#start(args);
    let ended = false;
    let timer: NodeJS.Timeout | undefined;
    const stop = (): void => {
      killProcessGroup(child.pid, 'SIGTERM');
      timer = setTimeout(() => ended || killProcessGroup(child.pid, 'SIGKILL'), STOP_GRACE_MS);
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      // What git has started may outlive it; it has ended when nobody can write any more.
      const [stdout, stderr, { code }] = await Promise.all([
        readAll(child.stdout, MAX_OUTPUT_BYTES, stop),
        readEnd(child.stderr),
        child.exited,
      ]);
      signal.throwIfAborted();
      return { code, stdout, stderr: redactUrls(stderr) };
    } finally {
      ended = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
  }

  #start(args: readonly string[]): ChildProcess {
    const { searchPath, gitDir, workTree } = this.#options;
    const git = findExecutable('git', searchPath);
    const shell = findExecutable('sh', searchPath);
    if (!git || !shell)
      throw new BuildError('failed to find git binary', {
        code: Code.notFound,
        hint: 'install git on the host of the daemon',
      });
    // Without --git-dir, git would look for a repository around the daemon's working directory.
    const places = [`--git-dir=${gitDir ?? '/dev/null'}`, ...(workTree ? [`--work-tree=${workTree}`] : [])];
    return spawn({
      file: shell,
      // Modes of files are the same whatever the daemon's umask is.
      args: ['sh', '-c', 'umask 022; exec "$@"', 'sh', git, ...places, ...args],
      env: this.#environment(),
      cwd: workTree ?? '/',
      stdout: 'pipe',
      stderr: 'pipe',
      setsid: true,
    });
  }

  #environment(): Record<string, string> {
    const { searchPath, env, settings = [], sshAuthSock, knownHosts = '' } = this.#options;
    const all = [...SAFE, ...settings];
    return {
      ...env,
      PATH: searchPath,
      HOME: '/dev/null',
      LC_ALL: 'C',
      GIT_TERMINAL_PROMPT: '0',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_CONFIG_COUNT: String(all.length),
      ...Object.fromEntries(
        all.flatMap(([key, value], i) => [
          [`GIT_CONFIG_KEY_${i}`, key],
          [`GIT_CONFIG_VALUE_${i}`, value],
        ]),
      ),
      GIT_SSH_COMMAND: sshCommand(knownHosts),
      ...(sshAuthSock === undefined ? {} : { SSH_AUTH_SOCK: sshAuthSock }),
    };
  }
}

/** Only what the client forwards counts: no configuration, keys or known hosts of the daemon's user. */
function sshCommand(knownHosts: string): string {
  const checked = knownHosts !== '';
  return [
    'ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none',
    `-o UserKnownHostsFile=${checked ? knownHosts : '/dev/null'}`,
    ...(checked ? [] : ['-o StrictHostKeyChecking=no -o LogLevel=ERROR']),
  ].join(' ');
}

/** The command with less asked for, when the server would not have it as it was. */
function withLess(args: readonly string[], stderr: string): readonly string[] | undefined {
  if (/--depth|shallow/.test(stderr) && args.includes('--depth=1'))
    return args.filter((arg) => arg !== '--depth=1');
  const named = args.length > 2 && args[0] === 'fetch' && isCommitSha(args.at(-1) ?? '');
  if (/not our ref|unadvertised object/.test(stderr) && named) return args.slice(0, -1);
  return undefined;
}

/** User and password of addresses in a text, masked. */
export function redactUrls(text: string): string {
  return text.replace(/(:\/\/)[^\s/'"]+@/g, '$1xxxxx@');
}

async function readAll(stream: Socket | undefined, limit: number, stop: () => void): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream ?? []) {
    const data = chunk as Buffer;
    size += data.length;
    if (size <= limit) chunks.push(data);
    else if (size - data.length <= limit) stop();
  }
  if (size > limit) throw new BuildError(`git said more than ${limit} bytes`);
  return Buffer.concat(chunks);
}

async function readEnd(stream: Socket | undefined): Promise<string> {
  let text = Buffer.alloc(0);
  for await (const chunk of stream ?? []) {
    text = Buffer.concat([text, chunk as Buffer]);
    if (text.length > 2 * MAX_ERROR_BYTES) text = text.subarray(-MAX_ERROR_BYTES);
  }
  return text.subarray(-MAX_ERROR_BYTES).toString();
}
