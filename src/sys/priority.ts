import { cfunc } from './ffi.ts';

const PRIO_PROCESS = 0;
const LEAST = 19;

const setpriority = cfunc<[number, number, number]>('setpriority', 'int', ['int', 'uint', 'int']);

/** Gives this thread (of Linux, not the process) the least share of the processors for as long as it lives. */
export function lowerThreadPriority(): void {
  // What cannot be lowered goes on as it is.
  setpriority(PRIO_PROCESS, 0, LEAST);
}
