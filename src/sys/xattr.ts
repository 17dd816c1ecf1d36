import { SystemError } from './errno.ts';
import { cfunc, lastErrno } from './ffi.ts';

/** The kernel's limit of one value and of a list of names. */
const MAX_BYTES = 65536;
const ENOENT_LIKE: ReadonlySet<number> = new Set([61, 95]);
let scratch: Buffer | undefined;

const lgetCall = cfunc<[string, string, Uint8Array, number]>('lgetxattr', 'int64_t', [
  'const char *',
  'const char *',
  'void *',
  'size_t',
]);
const lsetCall = cfunc<[string, string, Uint8Array, number, number]>('lsetxattr', 'int', [
  'const char *',
  'const char *',
  'void *',
  'size_t',
  'int',
]);
const llistCall = cfunc<[string, Uint8Array, number]>('llistxattr', 'int64_t', [
  'const char *',
  'void *',
  'size_t',
]);
const lremoveCall = cfunc<[string, string]>('lremovexattr', 'int', ['const char *', 'const char *']);

/** Value of `name`; undefined when it is not set or the file system has no attributes. Symlinks are not followed. */
export function lgetxattr(path: string, name: string, shown = path): Buffer | undefined {
  scratch ??= Buffer.allocUnsafeSlow(MAX_BYTES);
  const length = lgetCall(path, name, scratch, MAX_BYTES);
  if (length >= 0) return Buffer.from(scratch.subarray(0, length));
  const number = lastErrno();
  if (ENOENT_LIKE.has(number)) return undefined;
  throw new SystemError(number, 'lgetxattr', shown);
}

/** @throws SystemError, also when the file system has no such attributes. */
export function lsetxattr(path: string, name: string, value: Uint8Array, shown = path): void {
  if (lsetCall(path, name, value, value.length, 0) < 0)
    throw new SystemError(lastErrno(), 'lsetxattr', shown);
}

/** Names of the attributes; none when the file system has no attributes. */
export function llistxattr(path: string, shown = path): string[] {
  scratch ??= Buffer.allocUnsafeSlow(MAX_BYTES);
  const length = llistCall(path, scratch, MAX_BYTES);
  if (length > 0) return scratch.toString('utf8', 0, length - 1).split('\0');
  if (length === 0) return [];
  const number = lastErrno();
  if (ENOENT_LIKE.has(number)) return [];
  throw new SystemError(number, 'llistxattr', shown);
}

/** One that is not set is no error. */
export function lremovexattr(path: string, name: string, shown = path): void {
  if (lremoveCall(path, name) >= 0) return;
  const number = lastErrno();
  if (!ENOENT_LIKE.has(number)) throw new SystemError(number, 'lremovexattr', shown);
}

/** All attributes with their values, sorted by name; undefined when there are none. */
export function readXattrs(path: string, shown = path): Record<string, Buffer> | undefined {
  const names = llistxattr(path, shown);
  if (names.length === 0) return undefined;
  const all: Record<string, Buffer> = {};
  for (const name of names.sort()) {
    const value = lgetxattr(path, name, shown);
    if (value) all[name] = value;
  }
  return all;
}
