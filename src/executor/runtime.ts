import { closeSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code, errno } from '../base/errors.ts';
import { openPty, resizeTerminalOf } from '../sys/pty.ts';
import { type ChildProcess, findExecutable, killProcess, spawn } from '../sys/spawn.ts';
import { isCgroupHybrid } from './cgroup.ts';
import { restOfTerminal } from './terminal-rest.ts';
import type { ProcessControl, RunIo } from './types.ts';

/** An OCI runtime on this host. */
export interface Runtime {
  /** Path of the binary. */
  readonly path: string;
  /** Where it keeps the state of its containers. */
  readonly stateDir: string;
  /** Environment of the runtime itself, not of containers. */
  readonly env: Readonly<Record<string, string>>;
}

/** Tried in this order; crun starts a container in a third of runc's time. */
const CANDIDATES = ['buildkit-crun', 'crun', 'buildkit-runc', 'runc'];
const KILL_TIMEOUT_MS = 7000;
const KILL_RETRY_MS = 50;
/** How long the output of a container may go on after its runtime has ended, before what holds it is killed. */
const OUTPUT_GRACE_MS = 500;
/** Longest output chunk handed on (FEATURES G24). */
const MAX_CHUNK_BYTES = 32 * 1024;
const MAX_MESSAGE_BYTES = 8 * 1024;

/**
 * Finds the runtime: `binary` alone when it is given, else the first that works here.
 * @throws BuildError `failed to find X binary`
 */
export function findRuntime(binary: string | undefined, searchPath: string): string {
  const names = binary ? [binary] : CANDIDATES.filter((name) => !name.endsWith('crun') || !isCgroupHybrid());
  for (const name of names) {
    const path = findExecutable(name, searchPath);
    if (path) return path;
  }
  throw new BuildError(`failed to find ${names.at(-1)} binary`, { code: Code.notFound });
}

function start(runtime: Runtime, args: readonly string[], stdio: StartStdio): ChildProcess {
  const output = stdio.output === false ? 'null' : (stdio.terminal ?? 'pipe');
  return spawn({
    file: runtime.path,
    args: [basename(runtime.path), '--root', runtime.stateDir, ...args],
    env: runtime.env,
    stdin: stdio.terminal ?? (stdio.stdin ? 'pipe' : 'null'),
    stdout: output,
    stderr: output,
    setsid: true,
  });
}

interface StartStdio {
  readonly stdin?: boolean;
  readonly output?: boolean;
  /** Stands for all three. */
  readonly terminal?: { readonly fd: number } | undefined;
}

/** Runs a command of the runtime to its end. Returns its exit code and what it said on stdout and stderr. */
export async function runtimeCommand(
  runtime: Runtime,
  args: readonly string[],
): Promise<{ readonly code: number; readonly output: string; readonly message: string }> {
  const child = start(runtime, args, {});
  const [output, message] = await Promise.all([textOf(child.stdout), textOf(child.stderr)]);
  const { code } = await child.exited;
  return { code, output, message };
}

/** The beginning of a stream that is read to its end. */
async function textOf(stream: Socket | undefined): Promise<string> {
  let text = '';
  for await (const chunk of stream ?? []) if (text.length < MAX_MESSAGE_BYTES) text += String(chunk);
  return text.trim();
}

/** Whether `run` can leave the cgroup in place, for a look at what happened in it. */
export async function supportsKeep(runtime: Runtime): Promise<boolean> {
  const { output, message } = await runtimeCommand(runtime, ['run', '--help']);
  return output.includes('--keep') || message.includes('--keep');
}

interface ProcessRun {
  readonly id: string;
  /** Takes the runtime's own messages, of this process alone; without one they would come twice on the error stream. */
  readonly logFile: string;
  /** Where the runtime writes the process id, for signals. */
  readonly pidFile: string;
  /** Give it a terminal; the spec of the process has to say so, too. */
  readonly tty: boolean;
}

export interface ContainerRun extends ProcessRun {
  readonly bundle: string;
  /** Leave the container's cgroup in place at its end. */
  readonly keep: boolean;
  /** After each attempt to kill it: a container that was stopped has to go on to die. */
  readonly onKill: () => void;
}

export interface ContainerExec extends ProcessRun {
  /** What to run, as the runtime spec has it. */
  readonly processFile: string;
}

/** `runtime run`: returns the exit code of the container's process when it and its output have ended. */
export function runContainer(runtime: Runtime, run: ContainerRun, io: RunIo): Promise<number> {
  const keep = run.keep ? ['--keep'] : [];
  // Most processes get no signals but the last one.
  const pidFile = io.onStarted ? ['--pid-file', run.pidFile] : [];
  return follow(runtime, run, io, {
    args: ['run', '--bundle', run.bundle, ...pidFile, ...keep, run.id],
    kill: async () => {
      const { code } = await runtimeCommand(runtime, ['kill', run.id, 'KILL']);
      run.onKill();
      return code === 0;
    },
    endOutput: () => deleteContainer(runtime, run.id),
  });
}

/** `runtime exec`: one more process in a container that runs. */
export function execInContainer(runtime: Runtime, run: ContainerExec, io: RunIo): Promise<number> {
  return follow(runtime, run, io, {
    args: ['exec', '--process', run.processFile, '--pid-file', run.pidFile, run.id],
    kill: async () => {
      const pid = pidIn(run.pidFile);
      return pid !== undefined && killProcess(pid, 'SIGKILL');
    },
  });
}

interface Command {
  readonly args: readonly string[];
  /** Kills the process; false when it is not there yet. */
  readonly kill: () => Promise<boolean>;
  /** Ends those that hold the output open when the runtime has ended. Absent: what they write is not waited for. */
  readonly endOutput?: () => Promise<void>;
}

async function follow(runtime: Runtime, run: ProcessRun, io: RunIo, command: Command): Promise<number> {
  io.signal.throwIfAborted();
  const pty = run.tty ? openPty() : undefined;
  const args = ['--log', run.logFile, '--log-format', 'json', ...command.args];
  let child: ChildProcess;
  try {
    child = start(runtime, args, { stdin: io.stdin !== undefined, terminal: pty && { fd: pty.slave } });
  } catch (error) {
    pty?.stream.destroy();
    throw error;
  } finally {
    if (pty) closeSync(pty.slave);
  }
  let ended = false;
  const kill = (): Promise<void> => killUntilEnded(command.kill, child, () => ended);
  const onAbort = (): void => void kill();
  io.signal.addEventListener('abort', onAbort, { once: true });
  io.onStarted?.(control(run.pidFile, pty?.device, () => ended));
  const feeding = feed(pty?.stream ?? child.stdin, io.stdin, pty === undefined);
  try {
    const streams = [drain(pty?.stream ?? child.stdout, io.onStdout), drain(child.stderr, io.onStderr)];
    const drained = Promise.all(streams);
    const late = endWithRuntime(child, drained, command.endOutput);
    await (command.endOutput ? Promise.all([drained, late]) : late);
    const { code } = await child.exited;
    const rest = pty && restOfTerminal(run.logFile);
    if (rest) await io.onStdout?.(rest);
    return code;
  } catch (error) {
    await kill();
    await child.exited;
    throw error;
  } finally {
    ended = true;
    io.signal.removeEventListener('abort', onAbort);
    for (const stream of [pty?.stream, child.stdin, child.stdout, child.stderr]) stream?.destroy();
    await feeding;
  }
}

function control(pidFile: string, terminal: number | undefined, ended: () => boolean): ProcessControl {
  const untilDone = async (attempt: (pid: number) => boolean): Promise<void> => {
    const deadline = Date.now() + KILL_TIMEOUT_MS;
    while (!ended() && Date.now() < deadline) {
      const pid = pidIn(pidFile);
      if (pid !== undefined && attempt(pid)) return;
      await sleep(KILL_RETRY_MS);
    }
  };
  let size: readonly [rows: number, columns: number];
  return {
    signal: (name) => untilDone((pid) => killProcess(pid, name) || true),
    resize: async (rows, columns) => {
      size = [rows, columns];
      // The runtime has made the process a terminal of its own: not every runtime hands the size on.
      if (terminal !== undefined) await untilDone((pid) => resizeTerminalOf(pid, ...size, terminal));
    },
  };
}

/** What the runtime wrote, once it has written all of it. */
function pidIn(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, 'utf8'));
    return Number.isInteger(pid) && pid > 1 ? pid : undefined;
  } catch {
    // Not written yet.
    return undefined;
  }
}

/**
 * The output ends with the container, and the container before its runtime. Where somebody has killed the
 * runtime alone, its processes live on and keep the output open: they are ended, too.
 */
async function endWithRuntime(
  child: ChildProcess,
  drained: Promise<unknown>,
  endOutput: Command['endOutput'],
): Promise<void> {
  const over = drained.then(
    () => true,
    () => true,
  );
  await child.exited;
  if (await Promise.race([over, sleep(OUTPUT_GRACE_MS, false, { ref: false })])) return void (await drained);
  await endOutput?.();
}

async function drain(stream: Socket | undefined, receive: RunIo['onStdout']): Promise<void> {
  try {
    for await (const data of stream ?? []) {
      const bytes = data as Uint8Array;
      for (let at = 0; receive && at < bytes.length; at += MAX_CHUNK_BYTES) {
        const waiting = receive(bytes.subarray(at, at + MAX_CHUNK_BYTES));
        if (waiting) await waiting;
      }
    }
  } catch (error) {
    if (errno(error) !== 'EIO') throw error; // so ends a terminal that nobody has open any more
  }
}

async function feed(
  stream: Socket | undefined,
  source: AsyncIterable<Uint8Array> | undefined,
  end: boolean,
): Promise<void> {
  if (!stream || !source) return;
  stream.on('error', () => {});
  const closed = new Promise<'closed'>((resolve) => stream.once('close', () => resolve('closed')));
  const iterator = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), closed]);
      if (next === 'closed' || next.done) break;
      if (!stream.write(next.value)) {
        const drained = new Promise<void>((resolve) => stream.once('drain', resolve));
        await Promise.race([drained, closed]);
      }
    }
  } catch {
    // The source failed: the process sees the end of its input.
  } finally {
    if (end) stream.end();
    // Not awaited: a source that waits for a client ends when that one does.
    void iterator.return?.()?.catch(() => {});
  }
}

/** Kills the process; when that cannot be done, the runtime itself. Tried until it has ended. */
async function killUntilEnded(
  kill: () => Promise<boolean>,
  child: ChildProcess,
  ended: () => boolean,
): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  try {
    while (!ended() && Date.now() < deadline) {
      if (await kill()) return;
      // Not created yet, or ending already.
      await sleep(KILL_RETRY_MS);
    }
  } catch {
    // The kill could not even be started: the last resort does without it.
  }
  if (!ended()) child.kill('SIGKILL');
}

/** Removes what is left of a container: processes, cgroup, state. Nothing left is no error. */
export async function deleteContainer(runtime: Runtime, id: string): Promise<void> {
  await runtimeCommand(runtime, ['delete', '--force', id]);
}
