import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, Code, errno, notFound } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { JobRunner } from '../../pool/types.ts';
import { spreadSubdirectories } from '../../sys/inode-flags.ts';
import { lstatOrNone } from '../../sys/stat.ts';
import type { Collector } from '../collector.ts';
import type { Database } from '../database.ts';
import type { StoreFiles } from '../files.ts';
import type { GcNode } from '../gc.ts';
import type { StoreJobs } from '../jobs.ts';
import type { SqlLeaseStore } from '../lease-store.ts';
import type { PrepareOptions, SnapshotInfo, SnapshotKind, SnapshotUsage } from '../snapshot.ts';
import type { Trash } from '../trash.ts';

/** Of the name that a directory is made with. */
const NEW_PREFIX = 'new-';

export interface SnapshotterOptions {
  readonly db: Database;
  readonly leases: SqlLeaseStore;
  readonly collector: Collector;
  readonly trash: Trash;
  readonly jobs: JobRunner<StoreJobs>;
  readonly files: StoreFiles;
  readonly log: Logger;
  /** Directory of the snapshots; each has a numbered one below it. */
  readonly dir: string;
}

export interface SnapshotRow {
  id: number;
  name: string;
  kind: SnapshotKind;
  parent: number | null;
  created_at: number;
  size: number | null;
  inodes: number | null;
}

/**
 * What both snapshotters share: rows, numbers, directories and their removal. A directory is made before its row
 * and goes after it; in between, a crash leaves it to the journal.
 */
export class SnapshotRows {
  readonly options: SnapshotterOptions;
  readonly #db: Database;
  /** The file system puts a new directory where the name says that it is made with. */
  readonly #spreads: boolean;
  #nextId: number;

  constructor(options: SnapshotterOptions) {
    this.options = options;
    this.#db = options.db;
    mkdirSync(options.dir, { recursive: true, mode: 0o700 });
    this.#spreads = spreadSubdirectories(options.dir);
    const last = this.#db.get<{ seq: number }>("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'");
    this.#nextId = (last?.seq ?? 0) + 1;
  }

  dir(id: number): string {
    return join(this.options.dir, String(id));
  }

  get(name: string): SnapshotRow | undefined {
    return this.#db.get<SnapshotRow>('SELECT * FROM snapshots WHERE name = ?', name);
  }

  need(name: string): SnapshotRow {
    const row = this.get(name);
    if (!row) throw notFound(`snapshot ${name}: not found`);
    return row;
  }

  info(row: SnapshotRow): SnapshotInfo {
    const parent =
      row.parent === null
        ? undefined
        : this.#db.get<{ name: string }>('SELECT name FROM snapshots WHERE id = ?', row.parent)?.name;
    return { name: row.name, kind: row.kind, parent, createdAt: new Date(row.created_at) };
  }

  /** Numbers of the snapshots below `row`, nearest first. */
  ancestors(row: SnapshotRow): number[] {
    if (row.parent === null) return [];
    return this.#db
      .all<{ id: number }>(
        `WITH RECURSIVE chain(id, parent, depth) AS (
           SELECT id, parent, 0 FROM snapshots WHERE id = ?
           UNION ALL SELECT s.id, s.parent, depth + 1 FROM snapshots s JOIN chain c ON s.id = c.parent
         ) SELECT id FROM chain ORDER BY depth`,
        row.parent,
      )
      .map(({ id }) => id);
  }

  /** The committed parent to stand on, checked, of the snapshot `name` that is to be made. */
  parentOf(name: string | undefined, parent: string | undefined): SnapshotRow | undefined {
    if (name !== undefined && this.get(name))
      throw new BuildError(`snapshot ${name}: already exists`, { code: Code.alreadyExists });
    if (parent === undefined) return undefined;
    const row = this.need(parent);
    if (row.kind !== 'committed')
      throw new BuildError(`parent ${parent} is not a committed snapshot`, { code: Code.failedPrecondition });
    return row;
  }

  /**
   * Makes directory and row of a new snapshot. `fill` puts content into the directory; when it fails, nothing
   * remains. The lease holds the name from before the first byte.
   */
  async create(
    name: string,
    kind: SnapshotKind,
    parent: SnapshotRow | undefined,
    options: PrepareOptions,
    fill: (dir: string) => void | Promise<void>,
  ): Promise<void> {
    const { leases, trash } = this.options;
    const id = this.#nextId++;
    const dir = this.dir(id);
    // Numbers begin anew with each store: made with them, its snapshots would lie where those of the last one did.
    const first = this.#spreads ? `${NEW_PREFIX}${randomBytes(8).toString('hex')}` : String(id);
    const journal = [...new Set([first, String(id)])].map((one) => `snapshots/${one}`);
    this.#db.transaction(() => {
      if (options.lease !== undefined) leases.add(options.lease, { kind: 'snapshot', id: name });
      for (const path of journal) this.#db.run('INSERT OR IGNORE INTO doomed VALUES (?)', path);
    });
    try {
      this.#makeDir(join(this.options.dir, first), dir);
      const filled = fill(dir);
      if (filled) await filled;
      this.#db.transaction(() => {
        this.parentOf(name, parent?.name);
        for (const path of journal) this.#db.run('DELETE FROM doomed WHERE path = ?', path);
        this.#db.run(
          'INSERT INTO snapshots (id, name, kind, parent, created_at) VALUES (?, ?, ?, ?, ?)',
          id,
          name,
          kind,
          parent?.id ?? null,
          Date.now(),
        );
        if (options.lease === undefined) this.options.collector.suspect({ kind: 'snapshot', id: name });
      });
    } catch (error) {
      trash.take(dir);
      trash.take(join(this.options.dir, first));
      for (const path of journal) this.#db.run('DELETE FROM doomed WHERE path = ?', path);
      throw error;
    }
  }

  /** @param first name that it is made with */
  #makeDir(first: string, dir: string): void {
    const { files, trash } = this.options;
    makeDir(first, trash, files);
    if (first === dir) return;
    if (existsSync(dir) && !trash.take(dir)) rmSync(dir, { recursive: true, force: true });
    files.renameSync(first, dir);
  }

  /** @param onto becomes the parent of a snapshot that has none */
  commit(name: string, active: string, usage?: SnapshotUsage, onto?: SnapshotRow): void {
    this.#db.transaction(() => {
      const row = this.need(active);
      if (row.kind !== 'active')
        throw new BuildError(`snapshot ${active} is not active`, { code: Code.failedPrecondition });
      if (onto && row.parent !== null)
        throw new BuildError(`snapshot ${active} has a parent already`, { code: Code.failedPrecondition });
      const parent = onto?.id ?? row.parent;
      const there = name === active ? undefined : this.get(name);
      if (there && this.hasTree(there.id))
        throw new BuildError(`snapshot ${name}: already exists`, { code: Code.alreadyExists });
      if (there) return this.#replaceTree(there, row, usage);
      this.#db.run(
        "UPDATE snapshots SET name = ?, kind = 'committed', parent = ?, size = ?, inodes = ? WHERE id = ?",
        name,
        parent,
        usage ? usage.size + this.#ownBytes(row.id) : null,
        usage?.inodes ?? null,
        row.id,
      );
      if (name !== active) this.options.collector.suspect({ kind: 'snapshot', id: name });
    });
  }

  /** The row and all that refers to it stay, so that what stands on the snapshot is whole again. */
  #replaceTree(lost: SnapshotRow, by: SnapshotRow, usage: SnapshotUsage | undefined): void {
    const dir = this.dir(lost.id);
    this.options.trash.take(dir);
    this.options.files.renameSync(this.dir(by.id), dir);
    this.#db.run('DELETE FROM snapshots WHERE id = ?', by.id);
    this.#db.run(
      "UPDATE snapshots SET kind = 'committed', size = ?, inodes = ? WHERE id = ?",
      usage?.size ?? null,
      usage?.inodes ?? null,
      lost.id,
    );
    this.options.log.warn('a lost snapshot was made again', { snapshot: lost.name });
  }

  hasTree(id: number): boolean {
    return isDir(join(this.dir(id), 'fs'));
  }

  isWhole(name: string, kind: SnapshotKind): boolean {
    const row = this.get(name);
    return row?.kind === kind && this.hasTree(row.id);
  }

  /** See Snapshotter. `depth` is how many snapshots below its own one a mount needs. */
  lost(name: string, depth = Number.POSITIVE_INFINITY): string[] {
    const lost: string[] = [];
    let row = this.get(name);
    if (!row) return [name];
    for (let left = depth; row; left--) {
      if (!this.hasTree(row.id)) lost.unshift(row.name);
      if (row.parent === null || left === 0) break;
      const below: SnapshotRow | undefined = this.#db.get('SELECT * FROM snapshots WHERE id = ?', row.parent);
      if (!below) {
        this.#dropSevered(row);
        return [name];
      }
      row = below;
    }
    return lost;
  }

  #dropSevered(row: SnapshotRow): void {
    this.options.log.warn('dropping a snapshot without its parent', { snapshot: row.name });
    this.#db.transaction(() => this.collect(row.name));
  }

  /** What a snapshot takes beside its tree. */
  #ownBytes(id: number): number {
    const dirs = [this.dir(id), join(this.dir(id), 'work')];
    return dirs.reduce((sum, dir) => sum + (lstatOrNone(dir)?.blocks ?? 0) * 512, 0);
  }

  async usage(name: string, signal?: AbortSignal): Promise<SnapshotUsage> {
    const row = this.need(name);
    if (row.size !== null && row.inodes !== null) return { size: row.size, inodes: row.inodes };
    const path = this.dir(row.id);
    const usage = await this.options.jobs.run('treeUsage', { path }, signal ? { signal } : {});
    if (row.kind === 'committed') this.setUsage([{ id: row.id, ...usage }]);
    return usage;
  }

  /** Remembers what was measured of committed snapshots. */
  setUsage(measured: readonly ({ readonly id: number } & SnapshotUsage)[]): void {
    this.#db.transaction(() => {
      for (const { id, size, inodes } of measured)
        this.#db.run('UPDATE snapshots SET size = ?, inodes = ? WHERE id = ?', size, inodes, id);
    });
  }

  /** For callers that know the name; refuses one that others stand on. */
  remove(name: string): void {
    const row = this.need(name);
    if (this.#db.get('SELECT 1 FROM snapshots WHERE parent = ?', row.id))
      throw new BuildError(`cannot remove snapshot ${name} with child`, { code: Code.failedPrecondition });
    this.#db.transaction(() => {
      for (const parent of this.collect(name) ?? []) this.options.collector.suspect(parent);
    });
  }

  /** For the collector: the snapshot with all that stand on it, which are garbage too. */
  collect(name: string): readonly GcNode[] | undefined {
    const row = this.get(name);
    if (!row) return undefined;
    for (const child of this.#db.all<{ name: string }>('SELECT name FROM snapshots WHERE parent = ?', row.id))
      this.collect(child.name);
    this.#db.run('DELETE FROM snapshots WHERE id = ?', row.id);
    const dir = this.dir(row.id);
    const relative = `snapshots/${row.id}`;
    this.#db.run('INSERT OR IGNORE INTO doomed VALUES (?)', relative);
    this.#db.afterCommit(() => {
      this.options.trash.take(dir);
      this.#db.run('DELETE FROM doomed WHERE path = ?', relative);
    });
    const parent = row.parent === null ? undefined : this.info(row).parent;
    return parent === undefined ? [] : [{ kind: 'snapshot', id: parent }];
  }
}

function isDir(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function makeDir(dir: string, trash: Trash, files: StoreFiles): void {
  try {
    files.makeDir(dir, 0o700);
  } catch (error) {
    if (errno(error) !== 'EEXIST') throw error;
    if (!trash.take(dir)) rmSync(dir, { recursive: true, force: true });
    files.makeDir(dir, 0o700);
  }
}
