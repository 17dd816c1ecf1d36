import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../base/log.ts';
import { killLeft } from '../sys/left-processes.ts';

/** Directories of running steps: sockets of forwarded agents, mount points of secrets, trials of emulators. */
const LEFT = /^(?:ssh|secret|probe)-/;

/** Ends programs that a killed daemon has left running, and removes what steps had below `runDir`, unmounted by now. */
export function clearLeftBehind(stateDir: string, runDir: string, log: Logger): void {
  const pids = killLeft(stateDir);
  if (pids.length > 0) log.warn('ended programs that an earlier run has left', { pids: pids.join(' ') });
  for (const name of readdirSync(runDir))
    if (LEFT.test(name)) rmSync(join(runDir, name), { recursive: true, force: true });
}
