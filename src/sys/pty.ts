import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { cfunc, check, SYS } from './ffi.ts';

/** A terminal between this process and one it starts. */
export interface Pty {
  /** Both ways; fails with EIO when the other end is closed everywhere. */
  readonly stream: ReadStream;
  /** The other end, the caller's to hand on and close. */
  readonly slave: number;
  /** File system that the other end is on. */
  readonly device: number;
}

const TIOCSPTLCK = 0x40045431;
const TIOCGPTPEER = 0x5441;
const TIOCSWINSZ = 0x5414;
const O_CLOEXEC = 0o2000000;
/** Larger than any C library's struct termios. */
const TERMIOS_BYTES = 256;

const ioctlAt = cfunc<[number, number, Uint8Array | Int32Array | Uint16Array]>('ioctl', 'int', [
  'int',
  'ulong',
  'void *',
]);
const ioctl = cfunc<[number, number, number]>('ioctl', 'int', ['int', 'ulong', 'long']);
const tcgetattr = cfunc<[number, Uint8Array]>('tcgetattr', 'int', ['int', 'void *']);
const tcsetattr = cfunc<[number, number, Uint8Array]>('tcsetattr', 'int', ['int', 'int', 'void *']);
const cfmakeraw = cfunc<[Uint8Array]>('cfmakeraw', 'int', ['void *']);

const pidfdOpen = cfunc<[number, number, number]>('syscall', 'long', ['long', 'int', 'uint']);
const pidfdGetfd = cfunc<[number, number, number, number]>('syscall', 'long', ['long', 'int', 'int', 'uint']);

/** A raw one: bytes pass as they are, nothing is echoed. */
export function openPty(): Pty {
  const flags = constants.O_RDWR | constants.O_NOCTTY;
  const master = openSync('/dev/ptmx', flags);
  let slave: number | undefined;
  try {
    check(ioctlAt(master, TIOCSPTLCK, new Int32Array(1)), 'unlockpt');
    slave = check(ioctl(master, TIOCGPTPEER, flags | O_CLOEXEC), 'open', 'pts');
    const settings = new Uint8Array(TERMIOS_BYTES);
    check(tcgetattr(slave, settings), 'tcgetattr');
    cfmakeraw(settings);
    check(tcsetattr(slave, 0, settings), 'tcsetattr');
    return { stream: new ReadStream(master), slave, device: fstatSync(slave).dev };
  } catch (error) {
    closeSync(master);
    if (slave !== undefined) closeSync(slave);
    throw error;
  }
}

/**
 * Sets the size of the terminal that a process has as one of its standard streams, which tells its programs. False
 * when it has none, or only one on `notOn`: a process in the making still has that of its parent.
 */
export function resizeTerminalOf(pid: number, rows: number, columns: number, notOn: number): boolean {
  const process = pidfdOpen(SYS.pidfd_open, pid, 0);
  if (process < 0) return false;
  try {
    return [0, 1, 2].some((stream) => {
      // Not opened by its name: that may be anything by now.
      const fd = pidfdGetfd(SYS.pidfd_getfd, process, stream, 0);
      if (fd < 0) return false;
      try {
        if (fstatSync(fd).dev === notOn) return false;
        return ioctlAt(fd, TIOCSWINSZ, Uint16Array.of(rows, columns, 0, 0)) === 0;
      } finally {
        closeSync(fd);
      }
    });
  } finally {
    closeSync(process);
  }
}
