import { cfunc } from './ffi.ts';

const M_ARENA_MAX = -8;

const malloptCall = cfunc<[number, number]>('mallopt', 'int', ['int', 'int']);
const mallocTrimCall = cfunc<[number]>('malloc_trim', 'int', ['size_t']);

/**
 * Keeps threads from having heaps of their own, which a daemon of many short-lived threads never gets back.
 * Early in the program; false where the C library has no such setting.
 */
export function limitMallocArenas(count: number): boolean {
  try {
    return malloptCall(M_ARENA_MAX, count) === 1;
  } catch {
    // Another C library than glibc.
    return false;
  }
}

/** Gives freed memory back to the system, in about a millisecond. False where the C library cannot be asked. */
export function trimMemory(): boolean {
  try {
    mallocTrimCall(0);
    return true;
  } catch {
    // Another C library than glibc.
    return false;
  }
}
