import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { killProcess } from '../sys/spawn.ts';

const MOUNT = '/sys/fs/cgroup';
/** How long killed processes may take to leave their cgroup. */
const EMPTY_TIMEOUT_MS = 5000;
const POLL_MS = 20;

/** True on a host with the unified hierarchy alone. */
export function isCgroupV2(): boolean {
  return existsSync(join(MOUNT, 'cgroup.subtree_control'));
}

/** True when a hybrid host's second hierarchy is in sight, which crun cannot stand. */
export function isCgroupHybrid(): boolean {
  return !isCgroupV2() && existsSync(join(MOUNT, 'unified', 'cgroup.procs'));
}

/** `path` below a hierarchy; its parent is the client's choice and `..` in it leads nowhere else. */
function below(hierarchy: string, path: string): string {
  return join(MOUNT, hierarchy, posix.join('/', path));
}

/** Directories of one cgroup in every hierarchy where it exists. */
function directories(path: string): string[] {
  if (isCgroupV2()) return [below('', path)].filter((dir) => existsSync(dir));
  return readdirSync(MOUNT)
    .map((controller) => below(controller, path))
    .filter((dir) => existsSync(join(dir, 'cgroup.procs')));
}

function processes(dir: string): number[] {
  const own = readProcs(dir);
  const children = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...own, ...children.flatMap((child) => processes(join(dir, child.name)))];
}

function readProcs(dir: string): number[] {
  try {
    return readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  } catch {
    // Removed meanwhile, or a threaded group whose processes are listed by its parent.
    return [];
  }
}

/** Kills every process in the cgroup `path` and below, waits until they are gone, and removes it. */
export async function killCgroup(path: string): Promise<void> {
  const deadline = Date.now() + EMPTY_TIMEOUT_MS;
  for (;;) {
    const pids = new Set(directories(path).flatMap(processes));
    if (pids.size === 0 || Date.now() > deadline) break;
    for (const pid of pids) killProcess(pid, 'SIGKILL');
    await sleep(POLL_MS);
  }
  for (const dir of directories(path)) removeTree(dir);
}

function removeTree(dir: string): void {
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(dir, entry.name));
    rmdirSync(dir);
  } catch {
    // Somebody's process is still in it: the next start tries again.
  }
}

/** Whether the kernel killed for lack of memory in cgroup `path` (unified hierarchy only). */
export function hadOomKill(path: string): boolean {
  if (!isCgroupV2()) return false;
  try {
    const events = readFileSync(join(below('', path), 'memory.events'), 'utf8');
    return Number(/^oom_kill (\d+)/m.exec(events)?.[1] ?? 0) > 0;
  } catch {
    // The runtime has removed it already.
    return false;
  }
}
