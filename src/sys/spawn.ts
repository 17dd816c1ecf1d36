import { accessSync, closeSync, constants, statSync } from 'node:fs';
import { Socket } from 'node:net';
import { isMainThread } from 'node:worker_threads';
import { SystemError } from './errno.ts';
import { cfunc, check, SYS } from './ffi.ts';
import { type ExitStatus, signalNumber, watchChild } from './reap.ts';

/** What one of a child's standard streams is connected to: nothing, a pipe to us, or a descriptor of ours. */
export type Stdio = 'null' | 'pipe' | { readonly fd: number };

export interface SpawnOptions {
  /** Path of the program; see findExecutable for a name. */
  readonly file: string;
  /** With argv[0]. */
  readonly args: readonly string[];
  /** Complete environment of the child. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: Stdio;
  readonly stdout?: Stdio;
  readonly stderr?: Stdio;
  /** More descriptors of ours, by their number in the child (3 and up). */
  readonly extra?: Readonly<Record<number, number>>;
  /** Own session and process group, so that a terminal's signals do not reach it. */
  readonly setsid?: boolean;
}

/** A running child. Its streams are the caller's: read them to the end or destroy them. */
export interface ChildProcess {
  readonly pid: number;
  readonly stdin: Socket | undefined;
  readonly stdout: Socket | undefined;
  readonly stderr: Socket | undefined;
  /** Settles when the process has ended, whether or not the streams have. */
  readonly exited: Promise<ExitStatus>;
  /** False when it has ended already; never reaches another process. */
  kill(signal: NodeJS.Signals): boolean;
}

const SETSIGDEF = 0x04;
const SETSIGMASK = 0x08;
const SETSID = 0x80;
/** Larger than glibc's and musl's posix_spawnattr_t and posix_spawn_file_actions_t. */
const OPAQUE_BYTES = 512;
const SIGSET_BYTES = 128;
const O_CLOEXEC = 0o2000000;
const F_DUPFD_CLOEXEC = 1030;
/** Lowest number for copies of descriptors handed to a child, above any target number. */
const FIRST_COPY = 64;

type Opaque = Uint8Array;
const spawnCall = cfunc<[Int32Array, string, Opaque, Opaque, (string | null)[], (string | null)[]]>(
  'posix_spawn',
  'int',
  ['void *', 'const char *', 'void *', 'void *', 'const char **', 'const char **'],
);
const attrInit = cfunc<[Opaque]>('posix_spawnattr_init', 'int', ['void *']);
const attrFlags = cfunc<[Opaque, number]>('posix_spawnattr_setflags', 'int', ['void *', 'int']);
const attrDefault = cfunc<[Opaque, Uint8Array]>('posix_spawnattr_setsigdefault', 'int', ['void *', 'void *']);
const attrMask = cfunc<[Opaque, Uint8Array]>('posix_spawnattr_setsigmask', 'int', ['void *', 'void *']);
const attrDestroy = cfunc<[Opaque]>('posix_spawnattr_destroy', 'int', ['void *']);
const actionsInit = cfunc<[Opaque]>('posix_spawn_file_actions_init', 'int', ['void *']);
const actionsDestroy = cfunc<[Opaque]>('posix_spawn_file_actions_destroy', 'int', ['void *']);
const addDup2 = cfunc<[Opaque, number, number]>('posix_spawn_file_actions_adddup2', 'int', [
  'void *',
  'int',
  'int',
]);
const addOpen = cfunc<[Opaque, number, string, number, number]>('posix_spawn_file_actions_addopen', 'int', [
  'void *',
  'int',
  'const char *',
  'int',
  'uint',
]);
const addChdir = cfunc<[Opaque, string]>('posix_spawn_file_actions_addchdir_np', 'int', [
  'void *',
  'const char *',
]);
const closeRange = cfunc<[number, number, number, number]>('syscall', 'long', [
  'long',
  'uint',
  'uint',
  'uint',
]);
const CLOSE_RANGE_CLOEXEC = 4;
let inheritedClosed = false;
const pipe2 = cfunc<[Int32Array, number]>('pipe2', 'int', ['void *', 'int']);
const fcntlCall = cfunc<[number, number, number]>('fcntl', 'int', ['int', 'int', 'int']);
const killCall = cfunc<[number, number]>('kill', 'int', ['int', 'int']);

/**
 * Starts a process without copying this one's memory maps: quick however large the daemon is. Every
 * descriptor but the named ones is closed in it (all of ours are close-on-exec, those that this process
 * itself inherited from the first call on), signals have their
 * default action and none is blocked. Main thread only. @throws SystemError when it cannot be started.
 */
export function spawn(options: SpawnOptions): ChildProcess {
  if (!isMainThread) throw new Error('spawn: only the main thread may start processes');
  if (!inheritedClosed) closeRange(SYS.close_range, 3, 0xffffffff, CLOSE_RANGE_CLOEXEC);
  inheritedClosed = true;
  const mine: number[] = [];
  const theirs: number[] = [];
  const streams: (Socket | undefined)[] = [undefined, undefined, undefined];
  const targets: [fd: number, source: number][] = [];
  try {
    const stdio = [options.stdin ?? 'null', options.stdout ?? 'null', options.stderr ?? 'null'];
    const pipes: (number | undefined)[] = [];
    stdio.forEach((kind, fd) => {
      if (kind === 'pipe') {
        const [readEnd, writeEnd] = makePipe();
        mine.push(fd === 0 ? writeEnd : readEnd);
        theirs.push(fd === 0 ? readEnd : writeEnd);
        pipes[fd] = fd === 0 ? writeEnd : readEnd;
        targets.push([fd, fd === 0 ? readEnd : writeEnd]);
      } else if (kind !== 'null') targets.push([fd, kind.fd]);
    });
    for (const [fd, source] of Object.entries(options.extra ?? {})) targets.push([Number(fd), source]);
    const pid = start(options, stdio, targets, theirs);
    pipes.forEach((fd, index) => {
      if (fd === undefined) return;
      mine.splice(mine.indexOf(fd), 1);
      streams[index] = new Socket({ fd, readable: index > 0, writable: index === 0 });
    });
    const child = watchChild(pid);
    return {
      pid,
      stdin: streams[0],
      stdout: streams[1],
      stderr: streams[2],
      exited: child.exited,
      kill: (signal) => child.running() && killCall(pid, signalNumber(signal)) === 0,
    };
  } finally {
    for (const fd of [...mine, ...theirs]) closeSync(fd);
  }
}

function start(
  options: SpawnOptions,
  stdio: readonly Stdio[],
  targets: readonly (readonly [number, number])[],
  temporary: number[],
): number {
  for (const text of [options.file, ...options.args, ...Object.values(options.env)])
    if (text.includes('\0')) throw new SystemError('EINVAL', 'fork/exec', options.file);
  const attributes = new Uint8Array(OPAQUE_BYTES);
  const actions = new Uint8Array(OPAQUE_BYTES);
  attrInit(attributes);
  actionsInit(actions);
  try {
    attrFlags(attributes, SETSIGDEF | SETSIGMASK | (options.setsid ? SETSID : 0));
    attrDefault(attributes, new Uint8Array(SIGSET_BYTES).fill(0xff));
    attrMask(attributes, new Uint8Array(SIGSET_BYTES));
    stdio.forEach((kind, fd) => {
      if (kind === 'null') addOpen(actions, fd, '/dev/null', 2, 0);
    });
    for (const [fd, source] of targets) {
      // A copy out of the way first: a source may have the number of another one's target.
      const copy = check(fcntlCall(source, F_DUPFD_CLOEXEC, FIRST_COPY), 'dup', String(source));
      temporary.push(copy);
      addDup2(actions, copy, fd);
    }
    if (options.cwd !== undefined) addChdir(actions, options.cwd);
    const pid = new Int32Array(1);
    const env = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
    const error = spawnCall(pid, options.file, actions, attributes, [...options.args, null], [...env, null]);
    if (error !== 0) throw new SystemError(error, 'fork/exec', options.file);
    return pid[0]!;
  } finally {
    attrDestroy(attributes);
    actionsDestroy(actions);
  }
}

function makePipe(): [readEnd: number, writeEnd: number] {
  const fds = new Int32Array(2);
  check(pipe2(fds, O_CLOEXEC), 'pipe');
  return [fds[0]!, fds[1]!];
}

/** Signals any process, at most one that we know to be alive by other means. False when there is none. */
export function killProcess(pid: number, signal: NodeJS.Signals): boolean {
  if (pid <= 0) return false;
  return killCall(pid, signalNumber(signal)) === 0;
}

/** Signals all processes of a group, at most one whose leader is known to be a child of ours. False when there is none. */
export function killProcessGroup(leader: number, signal: NodeJS.Signals): boolean {
  if (leader <= 1) return false;
  return killCall(-leader, signalNumber(signal)) === 0;
}

/** Path of program `name` in a colon-separated search path; a name with a slash is taken as it is. */
export function findExecutable(name: string, searchPath: string): string | undefined {
  const candidates = name.includes('/')
    ? [name]
    : searchPath.split(':').map((dir) => `${dir || '.'}/${name}`);
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      // Not there or not executable: the next place may have it.
      return false;
    }
  });
}
