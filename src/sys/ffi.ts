import { createRequire } from 'node:module';
import { SystemError } from './errno.ts';
import { isStandalone, nativeAsset } from './standalone.ts';

/** The part of koffi that the rest of `sys/` needs. */
interface Koffi {
  load(path: string | null): { func(name: string, result: string, args: readonly string[]): NativeFunction };
  errno(): number;
}

interface NativeFunction {
  (...args: unknown[]): unknown;
  async(...args: unknown[]): void;
}

let koffi: Koffi | undefined;
let libc: ReturnType<Koffi['load']> | undefined;
/** errno of the last call that failed on this thread. */
let failure = 0;

/**
 * The executable's own copy, or the package: a bundle has `require`, a source file makes one. The library itself is
 * tried first: the package's code that looks for it takes longer than the library.
 */
function loadKoffi(): unknown {
  if (isStandalone()) return nativeAsset('koffi.node');
  const module: string | undefined = import.meta.url; // none in a bundle that is a script
  const load = module === undefined ? require : createRequire(module);
  const { arch } = process;
  try {
    return load(`@koromix/koffi-linux-${arch}/linux_${arch}/koffi.node`);
  } catch {
    // Another C library, or another layout of node_modules: the package knows.
    return load('koffi');
  }
}

function library(): ReturnType<Koffi['load']> {
  if (libc) return libc;
  koffi = loadKoffi() as Koffi;
  libc = koffi.load(null);
  return libc;
}

type CType =
  | 'int'
  | 'uint'
  | 'long'
  | 'ulong'
  | 'size_t'
  | 'int64_t'
  | 'uint64_t'
  | 'const char *'
  | 'void *'
  | 'const char **';

/**
 * A libc function, bound when first called: start-up pays for nothing that is not used. Its errno is read on the spot:
 * what the engine does on the way out of a function (collecting garbage, compiling) may change it.
 */
export function cfunc<A extends readonly unknown[]>(
  name: string,
  result: CType,
  args: readonly CType[],
): (...args: A) => number {
  let bound: NativeFunction | undefined;
  return (...values) => {
    bound ??= library().func(name, result, args);
    const value = bound(...values) as number;
    if (value < 0) failure = koffi!.errno();
    return value;
  };
}

/** Functions of another shared library, or undefined when it is not installed. */
export function loadLibrary(
  file: string,
): ((name: string, result: CType, args: readonly CType[]) => (...values: unknown[]) => unknown) | undefined {
  library();
  try {
    const handle = koffi!.load(file);
    return (name, result, args) => handle.func(name, result, args);
  } catch {
    // Not here: the caller does without.
    return undefined;
  }
}

/** The same function, called on a thread of libuv's pool. The errno is read in the same turn as the result. */
export function cfuncAsync<A extends readonly unknown[]>(
  name: string,
  result: CType,
  args: readonly CType[],
): (...args: A) => Promise<{ readonly value: number; readonly errno: number }> {
  let bound: NativeFunction | undefined;
  return (...values) => {
    bound ??= library().func(name, result, args);
    const call = bound;
    return new Promise((resolve, reject) => {
      call.async(...values, (error: unknown, value: number) => {
        const number = koffi?.errno() ?? 0;
        if (error) reject(error);
        else resolve({ value, errno: number });
      });
    });
  };
}

/** errno of the last function of `cfunc` that returned a negative value on this thread. */
export function lastErrno(): number {
  return failure;
}

/** `value`, or a SystemError for the errno just set when it is negative. */
export function check(value: number, syscall: string, path?: string, dest?: string): number {
  if (value < 0) throw new SystemError(lastErrno(), syscall, path, dest);
  return value;
}

/** System call numbers that are the same on every architecture. */
export const SYS = {
  pidfd_send_signal: 424,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  pidfd_open: 434,
  close_range: 436,
  openat2: 437,
  pidfd_getfd: 438,
  fchmodat2: 452,
} as const;
