import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
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

/** Where cgroup `path` is on a host with the unified hierarchy alone. */
export function unifiedDirectory(path: string): string {
  return below('', path);
}

/** Directories of one cgroup in every hierarchy where it exists. */
function directories(path: string): string[] {
  if (isCgroupV2()) return [below('', path)].filter((dir) => existsSync(dir));
  return readdirSync(MOUNT)
    .map((controller) => below(controller, path))
    .filter((dir) => existsSync(join(dir, 'cgroup.procs')));
}

function processes(dir: string): number[] {
  return [...readProcs(dir), ...childrenOf(dir).flatMap((child) => processes(join(dir, child)))];
}

function childrenOf(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return []; // removed meanwhile
  }
}

function readProcs(dir: string): number[] {
  try {
    return readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  } catch {
    // Removed meanwhile, or a threaded group whose processes are listed by its parent.
    return [];
  }
}

/**
 * Kills every process in the cgroup `path` and below, and removes it. Tried for a while: the kernel refuses as
 * long as a process is on its way out. Nothing there is no error.
 */
export async function killCgroup(path: string): Promise<void> {
  const deadline = Date.now() + EMPTY_TIMEOUT_MS;
  for (;;) {
    const left = directories(path);
    for (const pid of new Set(left.flatMap(processes))) killProcess(pid, 'SIGKILL');
    if (left.length > 0) thawCgroup(path); // in the first hierarchy, frozen processes do not even die
    for (const dir of left) removeTree(dir);
    if (directories(path).length === 0 || Date.now() > deadline) return;
    await sleep(POLL_MS);
  }
}

function removeTree(dir: string): void {
  try {
    for (const child of childrenOf(dir)) removeTree(join(dir, child));
    rmdirSync(dir);
  } catch {
    // Somebody's process is still in it, or was until just now.
  }
}

/** The file that stops and continues the processes of a cgroup, and what is written to it. */
export function freezerFile(path: string): {
  readonly path: string;
  readonly frozen: string;
  readonly thawed: string;
} {
  return isCgroupV2()
    ? { path: join(below('', path), 'cgroup.freeze'), frozen: '1', thawed: '0' }
    : { path: join(below('freezer', path), 'freezer.state'), frozen: 'FROZEN', thawed: 'THAWED' };
}

/** Stops all processes in the cgroup and below where they are. False when that cannot be done here. */
export function freezeCgroup(path: string): boolean {
  const file = freezerFile(path);
  return writeTo(file.path, file.frozen);
}

export function thawCgroup(path: string): void {
  const file = freezerFile(path);
  writeTo(file.path, file.thawed);
}

function writeTo(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: 'r+' });
    return true;
  } catch {
    // No such controller here, or the cgroup is gone.
    return false;
  }
}

/** Whether the kernel killed for lack of memory in cgroup `path` (unified hierarchy only). */
export function hadOomKill(path: string): boolean {
  if (!isCgroupV2()) return false;
  try {
    return countsOomKill(readFileSync(join(below('', path), 'memory.events'), 'utf8'));
  } catch {
    // The runtime has removed it already.
    return false;
  }
}

/** Reads a `memory.events`. */
export function countsOomKill(events: string): boolean {
  return Number(/^oom_kill (\d+)/m.exec(events)?.[1] ?? 0) > 0;
}
