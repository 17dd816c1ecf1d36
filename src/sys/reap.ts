import { constants } from 'node:os';
import { cfunc, lastErrno } from './ffi.ts';

/** How a process ended: by itself with `code`, or by `signal`. */
export interface ExitStatus {
  /** Exit code; 128 + number when a signal ended it, as shells count. */
  readonly code: number;
  readonly signal: NodeJS.Signals | undefined;
}

export interface WatchedChild {
  readonly exited: Promise<ExitStatus>;
  running(): boolean;
}

const WNOHANG = 1;
/** A signal may be lost when two children end at once. */
const SWEEP_MS = 1000;

const waitpid = cfunc<[number, Int32Array, number]>('waitpid', 'int', ['int', 'void *', 'int']);
const children = new Map<number, (status: ExitStatus) => void>();
const status = new Int32Array(1);
let sweep: NodeJS.Timeout | undefined;

/** Waits for a child started by this thread, without blocking and without touching anybody else's children. */
export function watchChild(pid: number): WatchedChild {
  const exited = new Promise<ExitStatus>((resolve) => children.set(pid, resolve));
  if (!sweep) {
    process.on('SIGCHLD', reap);
    sweep = setInterval(reap, SWEEP_MS);
  }
  sweep.ref();
  // It may have ended before the handler was there.
  setImmediate(reap);
  return { exited, running: () => children.has(pid) };
}

function reap(): void {
  for (const [pid, done] of children) {
    const result = waitpid(pid, status, WNOHANG);
    if (result === 0) continue;
    if (result < 0 && lastErrno() === 4) continue;
    children.delete(pid);
    done(result < 0 ? { code: 255, signal: undefined } : decode(status[0]!));
  }
  // Without children nothing here keeps the program running.
  if (children.size === 0) sweep?.unref();
}

function decode(word: number): ExitStatus {
  const signal = word & 0x7f;
  if (signal === 0) return { code: (word >> 8) & 0xff, signal: undefined };
  return { code: 128 + signal, signal: signalName(signal) };
}

function signalName(number: number): NodeJS.Signals | undefined {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return found?.[0] as NodeJS.Signals | undefined;
}

export function signalNumber(signal: NodeJS.Signals): number {
  return constants.signals[signal];
}
