import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { JobContext } from '../pool/types.ts';
import { fileSystemSpace, inodeKey, isDirMode, lstatOrNone } from '../sys/stat.ts';
import type { SnapshotUsage } from './snapshot.ts';

export interface DiskUseInput {
  /** The state directory. */
  readonly base: string;
  readonly database: string;
  readonly content: string;
  readonly snapshots: string;
}

/** What lies on the disk, in bytes of allocated blocks, as `du -x` counts them. */
export interface DiskUse {
  readonly total: number;
  readonly snapshots: number;
  readonly blobs: number;
  /** Database, indexes, logs, what is being written or deleted. */
  readonly other: number;
  /** Committed snapshots that were measured for this: their sizes are for the database. */
  readonly measured: readonly ({ readonly id: number } & SnapshotUsage)[];
}

/**
 * Adds up what the database knows and walks through the rest: snapshots that are being written or have not been
 * measured yet, and everything that is neither snapshot nor blob.
 */
export function diskUse(input: DiskUseInput, context: JobContext): DiskUse {
  const { base, content, snapshots } = input;
  const { blockBytes } = fileSystemSpace(base);
  const db = new DatabaseSync(input.database, { readOnly: true });
  let known: { snapshots: number; blobs: number };
  let unknown: { id: number; kind: string }[];
  try {
    db.exec('PRAGMA busy_timeout=5000');
    const sum = (sql: string, ...values: number[]): number =>
      (db.prepare(sql).get(...values) as { bytes: number | null }).bytes ?? 0;
    known = {
      snapshots: sum('SELECT sum(size) AS bytes FROM snapshots WHERE size IS NOT NULL'),
      blobs: sum('SELECT sum((size + ?1 - 1) / ?1 * ?1) AS bytes FROM blobs', blockBytes),
    };
    unknown = db.prepare('SELECT id, kind FROM snapshots WHERE size IS NULL').all() as typeof unknown;
  } finally {
    db.close();
  }
  const measured: ({ id: number } & SnapshotUsage)[] = [];
  let fresh = 0;
  for (const { id, kind } of unknown) {
    const usage = treeUsage({ path: join(snapshots, String(id)) }, context);
    fresh += usage.size;
    if (kind === 'committed') measured.push({ id, ...usage });
  }
  const own = (path: string): number => (lstatOrNone(path)?.blocks ?? 0) * 512;
  let other = own(base) + own(content) + own(join(content, 'sha256')) + own(snapshots);
  for (const path of pathsBeside(base, [content, snapshots])) other += treeUsage({ path }, context).size;
  const all = { snapshots: known.snapshots + fresh, blobs: known.blobs, other };
  return { ...all, total: all.snapshots + all.blobs + all.other, measured };
}

/** Everything below `base` but `apart`: whole entries, or what is beside `apart` in the directories above it. */
function pathsBeside(base: string, apart: readonly string[]): string[] {
  return readdirSync(base).flatMap((name) => {
    const path = join(base, name);
    if (apart.includes(path)) return [];
    return apart.some((one) => one.startsWith(`${path}/`)) ? pathsBeside(path, apart) : [path];
  });
}

/**
 * Bytes on disk and inodes of a tree; hard links count once, other file systems mounted in it do not. A file that
 * vanishes meanwhile is left out.
 */
export function treeUsage(input: { path: string }, context: JobContext): SnapshotUsage {
  const seen = new Set<string>();
  let size = 0;
  let inodes = 0;
  const visit = (path: string): void => {
    context.throwIfAborted();
    const stat = lstatOrNone(path);
    if (!stat || (stat.isMountPoint && path !== input.path)) return;
    const isDir = isDirMode(stat.mode);
    if (stat.nlink > 1 && !isDir) {
      const key = inodeKey(stat);
      if (seen.has(key)) return;
      seen.add(key);
    }
    inodes++;
    size += stat.blocks * 512;
    if (isDir) for (const name of namesIn(path)) visit(join(path, name));
  };
  visit(input.path);
  return { size, inodes };
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
