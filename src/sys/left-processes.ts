import { readdirSync, readFileSync } from 'node:fs';
import { killProcess } from './spawn.ts';

/** Variable of the environment by which programs that a daemon has started are known to the next one. */
export const OWNER_VARIABLE = 'BUILDKIT_TS_OWNER';

/**
 * Kills what an earlier owner of `owner` (a state directory) has started with `OWNER_VARIABLE` and left running, with
 * all that these have started in turn. Returns their ids. Call it while nothing of ours runs.
 */
export function killLeft(owner: string): number[] {
  const mark = Buffer.from(`${OWNER_VARIABLE}=${owner}\0`);
  const killed: number[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    if (hasEntry(pid, mark) && killProcess(pid, 'SIGKILL')) killed.push(pid);
  }
  return killed;
}

function hasEntry(pid: number, mark: Buffer): boolean {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`);
    const at = environment.indexOf(mark);
    return at === 0 || (at > 0 && environment[at - 1] === 0);
  } catch {
    // It has ended, or is somebody else's.
    return false;
  }
}
