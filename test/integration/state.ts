// What a daemon keeps in the kernel and on disk, for tests that nothing is left behind.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Daemon, OUR_DAEMON } from './harness.ts';

/** Leases of build records, which every build leaves, and what they alone keep. */
const NO_HISTORY = `id NOT LIKE 'history!_%' ESCAPE '!'`;
const HOLDERS = `SELECT 1 FROM lease_resources r WHERE r.kind = 'content' AND r.id = b.digest AND r.lease`;
const OF_HISTORY = `${HOLDERS} LIKE 'history!_%' ESCAPE '!'`;
const OF_OTHERS = `${HOLDERS} NOT LIKE 'history!_%' ESCAPE '!'`;
const SETTLE_LIMIT_MS = 10_000;
const LASTING = ['-not', '-name', 'ingest-*', '-not', '-name', 'resolv.conf'];

/** Mount points below `dir` that a process sees. */
export function mountPoints(pid: number | 'self', dir: string): string[] {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trimEnd().split('\n');
  const points = lines.map((line) => line.split(' ')[4] ?? '');
  return points.filter((point) => point.startsWith(`${dir}/`)).sort();
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it has ended
  }
}

/** Processes that have `word` among their arguments. */
export function processesWith(word: string): number[] {
  return pids().filter(
    (pid) => pid !== process.pid && read(`/proc/${pid}/cmdline`).split('\0').includes(word),
  );
}

/** Arguments of the processes that a process started, and of those that these started. */
export function descendants(ancestor: number): string[] {
  const parents = new Map(
    pids().map((pid) => [pid, Number(/^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1])] as const),
  );
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent === ancestor || (parent !== undefined && parent > 1 && isBelow(parent));
  };
  const below = [...parents.keys()].filter(isBelow);
  return below.map((pid) => read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()).sort();
}

/** Processes whose root or working directory lies in `dir`, or that see a mount there. */
export function processesInside(dir: string): string[] {
  const inside = (path: string): boolean => path === dir || path.startsWith(`${dir}/`);
  const link = (path: string): string => {
    try {
      return readlinkSync(path);
    } catch {
      return ''; // it has ended
    }
  };
  return pids()
    .filter((pid) => {
      const mounts = read(`/proc/${pid}/mountinfo`).split('\n');
      return (
        inside(link(`/proc/${pid}/root`)) ||
        inside(link(`/proc/${pid}/cwd`)) ||
        mounts.some((line) => inside(line.split(' ')[4] ?? ''))
      );
    })
    .map((pid) => `${pid} ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')}`);
}

/** Paths below `dir`, relative to it, that find(1) selects; none when `dir` is not there. Follows no links. */
export function filesBelow(dir: string, ...tests: readonly string[]): string[] {
  const { stdout } = spawnSync('find', [dir, '-mindepth', '1', ...tests, '-printf', '%P\\n']);
  return stdout.toString().split('\n').filter(Boolean).sort();
}

export interface DaemonState {
  readonly mounts: readonly string[];
  readonly processes: readonly string[];
  readonly leases: number;
  readonly temporaryLeases: number;
  readonly snapshots: number;
  readonly blobs: number;
  /** Without what interrupted downloads left for the next try, and without the resolv.conf of all steps. */
  readonly temporaryFiles: readonly string[];
}

/** What a running daemon holds at this moment; of another's store nothing is known here. */
export function stateOf(daemon: Daemon): DaemonState {
  const mounts = mountPoints(daemon.pid, daemon.root);
  const processes = descendants(daemon.pid);
  if (!OUR_DAEMON) {
    const unknown = { leases: 0, temporaryLeases: 0, snapshots: 0, blobs: 0, temporaryFiles: [] };
    return { mounts, processes, ...unknown };
  }
  const dir = join(daemon.root, 'buildkit-ts');
  const db = new DatabaseSync(join(dir, 'store.db'), { readOnly: true });
  try {
    const count = (from: string): number =>
      Number((db.prepare(`SELECT count(*) AS n FROM ${from}`).get() as { n: number }).n);
    return {
      mounts,
      processes,
      leases: count(`leases WHERE ${NO_HISTORY}`),
      temporaryLeases: count('leases WHERE temporary = 1'),
      snapshots: count('snapshots'),
      blobs: count(`blobs b WHERE NOT EXISTS (${OF_HISTORY}) OR EXISTS (${OF_OTHERS})`),
      temporaryFiles: ['tmp', 'run', 'executor', 'trash'].flatMap((area) =>
        filesBelow(join(dir, area), ...LASTING).map((name) => join(area, name)),
      ),
    };
  } finally {
    db.close();
  }
}

/** Waits until the daemon holds what it held before; fails with the difference when it does not in time. */
export async function settlesTo(daemon: Daemon, before: DaemonState): Promise<void> {
  await eventually(() => assert.deepEqual(stateOf(daemon), before));
}

/** Waits until `check` does not throw. */
export async function eventually(
  check: () => void | Promise<void>,
  limitMs = SETTLE_LIMIT_MS,
): Promise<void> {
  const limit = Date.now() + limitMs;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (Date.now() > limit) throw error;
      await sleep(50);
    }
  }
}
