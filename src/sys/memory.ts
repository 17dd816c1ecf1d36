import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
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

type Collect = (options: { type: 'major'; execution: 'async' }) => Promise<void>;
let collect: Collect | undefined;

/** What is no longer used stays on the heap for as long as nothing more is allocated: it is collected by request. */
async function collectGarbage(): Promise<void> {
  if (!collect) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as Collect;
    // Compiled code that is kept with other flags than a program starts with is refused at its next start.
    setFlagsFromString('--no-expose-gc');
  }
  await collect({ type: 'major', execution: 'async' });
}

/**
 * Gives memory that is not used back to the system; for a moment at which nothing else is to be done. False where the C
 * library cannot be asked.
 */
export async function trimMemory(): Promise<boolean> {
  await collectGarbage();
  try {
    mallocTrimCall(0);
    return true;
  } catch {
    // Another C library than glibc.
    return false;
  }
}
