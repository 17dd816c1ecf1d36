import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code } from '../base/errors.ts';
import { isStandalone } from '../sys/standalone.ts';
import { DAEMON_NODE_FLAGS, daemonEnvironment } from './daemon-flags.ts';

/** The daemon a build speaks to: one that runs already, or its own (FEATURES: no daemon needed). */
export interface BuildDaemon extends AsyncDisposable {
  readonly address: string;
  /** Adds what is known of the daemon's end to an error of the build. */
  explain(error: unknown): unknown;
}

/** By which private daemons are told from others. */
const PRIVATE_FLAG = '--exit-with-stdin';
const RUN_DIR = '/run/buildkit';
/** Longest path of a unix socket, bytes. */
const MAX_SOCKET_PATH = 107;
const POLL_MS = 50;
const LOCK_POLL_MS = 500;
/** A daemon that has not answered by then is taken for stuck. */
const START_LIMIT_MS = 60_000;
/** Time to end after its input has, before it is killed. */
const STOP_LIMIT_MS = 20_000;
/** Error output kept for the message, characters. */
const MAX_STDERR = 16 << 10;
const LOCKED = /could not lock (.+), another instance running\?/;

/** Which daemon is wanted. */
export interface DaemonChoice {
  readonly address: string;
  /** The address was asked for: it is taken, whether a daemon answers there or not. */
  readonly asked: boolean;
  readonly private: PrivateDaemonOptions;
  /** How users name a daemon and a state directory, for hints. */
  readonly words: { readonly address: string; readonly root: string };
  /** Told of what takes time. */
  readonly onNotice: (text: string) => void;
  readonly signal: AbortSignal;
}

/** How a private daemon runs. */
export interface PrivateDaemonOptions {
  /** State directory; the daemon's own default when absent. */
  readonly root?: string;
  /** Entitlements that builds may have: whose daemon it is decides that. */
  readonly allow?: readonly string[];
  /** More arguments of buildkitd. */
  readonly args?: readonly string[];
  /** The program with its first arguments; default the daemon of this package. */
  readonly command?: readonly [file: string, ...args: string[]];
}

/**
 * The daemon of an address that was asked for, else the one at the default address if it answers,
 * else a private one that lives as long as this process does.
 */
export async function openDaemon(choice: DaemonChoice): Promise<BuildDaemon> {
  const { address, signal, onNotice } = choice;
  const path = address.startsWith('unix://') ? address.slice('unix://'.length) : '';
  if (choice.asked || path === '' || (await answers(path)) || !canRunHere(choice)) return runningAt(address);
  onNotice('no buildkitd answers, running a private one for this build');
  let waiting = false;
  for (;;) {
    const daemon = new PrivateDaemon(choice.private);
    try {
      await daemon.ready(signal);
      return daemon;
    } catch (error) {
      await daemon[Symbol.asyncDispose]();
      const lock = error instanceof BuildError ? LOCKED.exec(error.message)?.[1] : undefined;
      if (lock === undefined) throw error;
      if (await answers(path)) return runningAt(address);
      refuseForeign(lock, choice.words);
      if (!waiting) onNotice('another build uses the state directory, waiting for it to end');
      waiting = true;
      await sleep(LOCK_POLL_MS, undefined, { signal });
    }
  }
}

/**
 * A private daemon on the state directory `root`, which collects no garbage: its configuration is not that of the daemon
 * that uses the directory otherwise. @throws BuildError when that one runs
 */
export async function openPrivateDaemon(
  {
    root,
    words,
    command,
  }: { readonly root: string } & Pick<DaemonChoice, 'words'> & Pick<PrivateDaemonOptions, 'command'>,
  signal: AbortSignal,
): Promise<BuildDaemon> {
  if (!existsSync(root)) throw new BuildError(`there is no state directory ${root}`, { code: Code.notFound });
  const daemon = new PrivateDaemon({ root, args: ['--oci-worker-gc=false'], ...(command && { command }) });
  try {
    await daemon.ready(signal);
    return daemon;
  } catch (error) {
    await daemon[Symbol.asyncDispose]();
    const lock = error instanceof BuildError ? LOCKED.exec(error.message)?.[1] : undefined;
    if (lock !== undefined) refuseForeign(lock, words);
    throw error;
  }
}

function runningAt(address: string): BuildDaemon {
  return { address, explain: (error) => error, [Symbol.asyncDispose]: async () => {} };
}

/** True for root. @throws BuildError that says what anyone else lacks. */
function canRunHere({ words }: DaemonChoice): boolean {
  if (process.getuid?.() === 0) return true;
  throw new BuildError('no buildkitd answers at the default address, and running a private one needs root', {
    code: Code.unavailable,
    hint: `run the build as root, start buildkitd, or name a daemon with ${words.address}`,
  });
}

async function answers(path: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  const socket = connect({ path });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  const answered = await promise;
  socket.destroy();
  return answered;
}

/** @throws BuildError when a daemon that is no build's own, and so may run for ever, holds the lock. */
function refuseForeign(lock: string, words: DaemonChoice['words']): void {
  const { ino } = statSync(lock, { throwIfNoEntry: false }) ?? {};
  if (ino === undefined) return;
  const held = readFileSync('/proc/locks', 'utf8').matchAll(
    /^\d+: FLOCK +\S+ +WRITE (\d+) [^:\s]+:[^:\s]+:(\d+) /gm,
  );
  for (const [, pid, inode] of held) {
    if (Number(inode) !== ino) continue;
    let command = '';
    try {
      command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      continue; // it has just ended
    }
    if (command.split('\0').includes(PRIVATE_FLAG)) continue;
    throw new BuildError(
      `the state directory ${dirname(lock)} is in use by buildkitd with process id ${pid}`,
      {
        code: Code.unavailable,
        hint: `name that daemon with ${words.address}, stop it, or choose another state directory with ${words.root}`,
      },
    );
  }
}

/** A child process that ends when this one does: its standard input is a pipe held here. */
class PrivateDaemon implements BuildDaemon {
  readonly address: string;
  readonly #dir: string;
  readonly #socket: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #log = '';

  constructor({ root, allow = [], args = [], command = daemonCommand() }: PrivateDaemonOptions) {
    this.#dir = socketDir();
    this.#socket = join(this.#dir, 'private.sock');
    this.address = `unix://${this.#socket}`;
    const flags = ['--addr', this.address, PRIVATE_FLAG, ...args];
    if (root) flags.push('--root', root);
    for (const name of new Set(allow)) flags.push('--allow-insecure-entitlement', name);
    const [file, ...first] = command;
    // In a process group of its own, so that Ctrl-C reaches it through the build only.
    this.#child = spawn(file, [...first, ...flags], {
      stdio: ['pipe', 'ignore', 'pipe'],
      detached: true,
      env: daemonEnvironment(process.env),
    });
    this.#child.stdin?.on('error', () => {}); // it has ended, which is noticed elsewhere
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#child.once('close', () => resolve());
    this.#child.once('error', (error) => {
      this.#log += error.message;
      resolve();
    });
    this.#ended = promise;
    this.#collect().catch(() => {}); // only for messages
  }

  async #collect(): Promise<void> {
    for await (const chunk of this.#child.stderr ?? [])
      this.#log = (this.#log + (chunk as Buffer).toString()).slice(-MAX_STDERR);
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
  }

  async ready(signal: AbortSignal): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(START_LIMIT_MS)]);
    while (!(await answers(this.#socket))) {
      if (this.#hasEnded) {
        await this.#ended;
        throw new BuildError(`the private buildkitd could not start: ${this.#lastWords()}`, {
          code: Code.unavailable,
        });
      }
      if (limit.aborted && !signal.aborted)
        throw new BuildError(`the private buildkitd did not answer: ${this.#lastWords()}`, {
          code: Code.unavailable,
        });
      signal.throwIfAborted();
      await Promise.race([sleep(POLL_MS), this.#ended]);
    }
  }

  explain(error: unknown): unknown {
    if (!this.#hasEnded) return error;
    return BuildError.wrap(error, `the private buildkitd has ended (${this.#lastWords()})`);
  }

  /** Its own error line if it gave one, else the end of what it said. */
  #lastWords(): string {
    const lines = this.#log.trimEnd().split('\n');
    const fatal = lines.findLast((line) => line.startsWith('buildkitd: '));
    return fatal?.slice('buildkitd: '.length) ?? lines.slice(-5).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_LIMIT_MS);
    if (this.#child.pid !== undefined) await this.#ended;
    clearTimeout(timer);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

function socketDir(): string {
  const parents = [RUN_DIR, tmpdir(), '/tmp'];
  for (const parent of parents) {
    if (Buffer.byteLength(join(parent, 'private-4194304-XXXXXX', 'private.sock')) > MAX_SOCKET_PATH) continue;
    try {
      mkdirSync(parent, { recursive: true });
      sweep(parent);
      return mkdtempSync(join(parent, `private-${process.pid}-`));
    } catch {
      // not writable: the next place
    }
  }
  throw new BuildError(`no place for a socket: none of ${parents.join(', ')} can be written`);
}

/** Removes what builds that were killed have left. */
function sweep(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = /^private-(\d+)-\w{6}$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(join(parent, name), { recursive: true, force: true });
  }
}

/** The daemon beside this program: its own executable, its bundle, or its source. */
function daemonCommand(): readonly [file: string, ...args: string[]] {
  const module: string | undefined = import.meta.url; // none in a bundle that is a script
  const program = isStandalone() ? process.execPath : module ? fileURLToPath(module) : process.argv[1];
  const here = program && existsSync(program) ? dirname(realpathSync(program)) : '';
  const names = isStandalone() ? ['buildkitd'] : ['buildkitd.cjs', '../buildkitd.cjs', '../daemon/main.ts'];
  const daemon = names.map((name) => join(here, name)).find((path) => existsSync(path));
  if (daemon !== undefined)
    return isStandalone() ? [daemon] : [process.execPath, ...DAEMON_NODE_FLAGS, daemon];
  throw new BuildError('no buildkitd answers, and there is none beside this program to run', {
    code: Code.unavailable,
    hint: 'start buildkitd, or name a daemon by its address (BUILDKIT_HOST)',
  });
}
