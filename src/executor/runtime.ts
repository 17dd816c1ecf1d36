import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code } from '../base/errors.ts';
import { type ChildProcess, findExecutable, spawn } from '../sys/spawn.ts';
import { isCgroupHybrid } from './cgroup.ts';
import type { RunIo } from './types.ts';

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

function start(
  runtime: Runtime,
  args: readonly string[],
  io: { stdin: boolean; output: boolean },
): ChildProcess {
  const output = io.output ? 'pipe' : 'null';
  return spawn({
    file: runtime.path,
    args: [basename(runtime.path), '--root', runtime.stateDir, ...args],
    env: runtime.env,
    stdin: io.stdin ? 'pipe' : 'null',
    stdout: output,
    stderr: output,
    setsid: true,
  });
}

/** Runs a command of the runtime to its end. Returns its exit code and what it said on stderr. */
export async function runtimeCommand(
  runtime: Runtime,
  args: readonly string[],
): Promise<{ readonly code: number; readonly message: string }> {
  const child = start(runtime, args, { stdin: false, output: true });
  let message = '';
  const read = async (stream: Socket | undefined, keep: boolean): Promise<void> => {
    for await (const chunk of stream ?? [])
      if (keep && message.length < MAX_MESSAGE_BYTES) message += String(chunk);
  };
  await Promise.all([read(child.stdout, false), read(child.stderr, true)]);
  const { code } = await child.exited;
  return { code, message: message.trim() };
}

/** Whether `run` can leave the cgroup in place, for a look at what happened in it. */
export async function supportsKeep(runtime: Runtime): Promise<boolean> {
  const child = start(runtime, ['run', '--help'], { stdin: false, output: true });
  let text = '';
  const read = async (stream: Socket | undefined): Promise<void> => {
    for await (const chunk of stream ?? []) if (text.length < MAX_MESSAGE_BYTES) text += String(chunk);
  };
  await Promise.all([read(child.stdout), read(child.stderr)]);
  await child.exited;
  return text.includes('--keep');
}

export interface ContainerRun {
  readonly id: string;
  readonly bundle: string;
  /** Takes the runtime's own messages; without one they would come twice on the error stream. */
  readonly logFile: string;
  /** Leave the container's cgroup in place at its end. */
  readonly keep: boolean;
}

/** `runtime run`: returns the exit code of the container's process when it and its output have ended. */
export async function runContainer(runtime: Runtime, run: ContainerRun, io: RunIo): Promise<number> {
  io.signal.throwIfAborted();
  const args = ['--log', run.logFile, '--log-format', 'json', 'run', '--bundle', run.bundle];
  if (run.keep) args.push('--keep');
  const child = start(runtime, [...args, run.id], { stdin: io.stdin !== undefined, output: true });
  let ended = false;
  const onAbort = (): void => void killContainer(runtime, run.id, child, () => ended);
  io.signal.addEventListener('abort', onAbort, { once: true });
  io.onStarted?.();
  const feeding = feed(child.stdin, io.stdin);
  try {
    const drained = Promise.all([drain(child.stdout, io.onStdout), drain(child.stderr, io.onStderr)]);
    await Promise.all([drained, endWithRuntime(runtime, run.id, child, drained)]);
    return (await child.exited).code;
  } catch (error) {
    await killContainer(runtime, run.id, child, () => ended);
    await child.exited;
    throw error;
  } finally {
    ended = true;
    io.signal.removeEventListener('abort', onAbort);
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
    await feeding;
  }
}

/**
 * The output ends with the container, and the container before its runtime. Where somebody has killed the
 * runtime alone, its processes live on and keep the output open: they are ended, too.
 */
async function endWithRuntime(
  runtime: Runtime,
  id: string,
  child: ChildProcess,
  drained: Promise<unknown>,
): Promise<void> {
  await child.exited;
  const over = drained.then(
    () => true,
    () => true,
  );
  if (await Promise.race([over, sleep(OUTPUT_GRACE_MS, false, { ref: false })])) return;
  await deleteContainer(runtime, id);
}

async function drain(stream: Socket | undefined, receive: RunIo['onStdout']): Promise<void> {
  for await (const data of stream ?? []) {
    const bytes = data as Uint8Array;
    for (let at = 0; receive && at < bytes.length; at += MAX_CHUNK_BYTES) {
      const waiting = receive(bytes.subarray(at, at + MAX_CHUNK_BYTES));
      if (waiting) await waiting;
    }
  }
}

async function feed(
  stream: Socket | undefined,
  source: AsyncIterable<Uint8Array> | undefined,
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
    stream.end();
    // Not awaited: a source that waits for a client ends when that one does.
    void iterator.return?.()?.catch(() => {});
  }
}

/** Kills the container's processes; when the runtime cannot, the runtime itself. Tried until it has ended. */
async function killContainer(
  runtime: Runtime,
  id: string,
  child: ChildProcess,
  ended: () => boolean,
): Promise<void> {
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  try {
    while (!ended() && Date.now() < deadline) {
      const { code } = await runtimeCommand(runtime, ['kill', id, 'KILL']);
      if (code === 0) return;
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
