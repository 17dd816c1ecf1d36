import { closeSync, linkSync, mkdirSync, openSync, readdirSync, readSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type Digest, Digester } from '../base/digest.ts';
import type { JobContext, Jobs } from '../pool/types.ts';
import { copyFile, copyMetadata } from '../sys/copy.ts';
import { inodeKey, isDirMode, lstat } from '../sys/stat.ts';
import { diskUse, treeUsage } from './disk-use.ts';
import { isDatabaseDamage } from './salvage.ts';

const READ_BYTES = 1 << 20;
/** Problems of a database that are told. */
const MAX_PROBLEMS = 20;

/**
 * Copies the tree `from` into the existing directory `to` with owners, modes, times, attributes, devices and hard
 * links. Both trees must be at rest and belong to us alone.
 */
function copyTree(input: { from: string; to: string }, context: JobContext): void {
  const links = new Map<string, string>();
  const copy = (from: string, to: string, top: boolean): void => {
    context.throwIfAborted();
    const stat = lstat(from);
    const directory = isDirMode(stat.mode);
    if (!directory && stat.nlink > 1) {
      const key = inodeKey(stat);
      const first = links.get(key);
      if (first !== undefined) {
        linkSync(first, to);
        return;
      }
      links.set(key, to);
    }
    if (directory) {
      if (!top) mkdirSync(to, 0o700);
      for (const name of readdirSync(from)) copy(join(from, name), join(to, name), false);
    } else copyFile(from, to, stat, () => context.throwIfAborted());
    copyMetadata(from, to, stat);
  };
  copy(input.from, input.to, true);
}

/** Deletes trees; what resists is left, and the first such failure thrown at the end. */
function removeTrees(input: { paths: readonly string[] }): void {
  const failures: unknown[] = [];
  for (const path of input.paths) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** Digest of a file's bytes. */
function fileDigest(input: { path: string }, context: JobContext): Digest {
  const hash = new Digester();
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  const fd = openSync(input.path, 'r');
  try {
    for (;;) {
      context.throwIfAborted();
      const length = readSync(fd, buffer, 0, READ_BYTES, null);
      if (length === 0) return hash.digest();
      hash.update(buffer.subarray(0, length));
    }
  } finally {
    closeSync(fd);
  }
}

/** What SQLite's own check finds wrong with a database; `deep` compares indexes with their tables as well. */
function checkDatabase(input: { path: string; deep: boolean }): string[] {
  try {
    const db = new DatabaseSync(input.path, { readOnly: true });
    try {
      const pragma = input.deep ? 'integrity_check' : 'quick_check';
      const rows = db.prepare(`PRAGMA ${pragma}(${MAX_PROBLEMS})`).all() as Record<string, string>[];
      return rows.flatMap((row) => Object.values(row)).filter((text) => text !== 'ok');
    } finally {
      db.close();
    }
  } catch (error) {
    if (!isDatabaseDamage(error)) throw error;
    return [(error as Error).message];
  }
}

/** Moves the database's log into its file, as far as readers allow; writers go on meanwhile. */
function checkpoint(input: { path: string }): void {
  const db = new DatabaseSync(input.path);
  try {
    db.exec('PRAGMA busy_timeout=1000; PRAGMA wal_checkpoint(PASSIVE);');
  } finally {
    db.close();
  }
}

/** Heavy work of the store, for the worker threads. */
export const storeJobs = {
  treeUsage,
  diskUse,
  copyTree,
  removeTrees,
  fileDigest,
  checkDatabase,
  checkpoint,
} satisfies Jobs;
export type StoreJobs = typeof storeJobs;
