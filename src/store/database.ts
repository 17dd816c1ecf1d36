import { closeSync, existsSync, fdatasync, fstatSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { BuildError, Code } from '../base/errors.ts';
import { DiskReserve } from './disk-reserve.ts';
import { isDatabaseDamage, salvage, type Salvaged } from './salvage.ts';

const fdatasyncAsync = promisify(fdatasync);

export type SqlValue = SQLInputValue;

/**
 * The one embedded database (SQLite, write-ahead log). Queries on the main thread are point queries. A commit is
 * visible and survives the death of the process at once; `flush` makes it survive a power cut. Commits ask for
 * that in the background, many at a time, so that no step waits for the disk: the log is always consistent, and
 * a power cut can only take its newest end.
 */
export class Database implements Disposable {
  readonly path: string;
  /** The last run did not close the file: it was killed, or the machine was. */
  readonly wasLeftOpen: boolean;
  #db: DatabaseSync;
  readonly #reserve: DiskReserve;
  readonly #statements = new Map<string, StatementSync>();
  readonly #components = new Map<string, readonly string[]>();
  #depth = 0;
  #afterCommit: (() => void)[] = [];
  #walFd: number | undefined;
  #flushing: Promise<void> | undefined;
  #checkpointing: Promise<void> | undefined;
  #dirty = false;
  #flushTimer: NodeJS.Timeout | undefined;

  /** Runs a checkpoint elsewhere when the log has grown; the log is then written from its start again. */
  checkpoint: (() => Promise<void>) | undefined;
  /** Told when the file turned out to be damaged and was rebuilt from what could be read of it. */
  onRebuilt: ((salvaged: Salvaged) => void) | undefined;

  /** Opens or creates the file. @throws what SQLite throws for a damaged one. */
  constructor(path: string) {
    this.path = path;
    this.wasLeftOpen = (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;
    this.#db = openFile(path);
    this.#reserve = new DiskReserve(`${path}-reserve`);
  }

  /**
   * Puts the damaged file aside and goes on with a new one that holds what can be read of it. Takes seconds for a large
   * store, during which nothing else happens.
   */
  rebuild(): Salvaged {
    this.#statements.clear();
    this.#closeLog();
    if (this.#db.isOpen) this.#db.close();
    const salvaged = rebuildFile(this.path);
    this.#db = openFile(this.path);
    // Tables of which nothing was left.
    for (const [component, steps] of this.#components) this.migrate(component, steps);
    this.#markDirty();
    this.onRebuilt?.(salvaged);
    return salvaged;
  }

  /** Runs `work`, and once more when it finds the file damaged. */
  #pastDamage<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (this.#depth > 0 || !isDatabaseDamage(error)) throw error;
      this.rebuild();
      return work();
    }
  }

  /**
   * Brings the tables of `component` up to date: `steps[n]` leads from version n to n+1 and never changes once
   * released. @throws failedPrecondition when the file was written by a newer version.
   */
  migrate(component: string, steps: readonly string[]): void {
    this.#components.set(component, steps);
    const row = this.get<{ version: number }>('SELECT version FROM schema WHERE component = ?', component);
    const version = row?.version ?? 0;
    if (version > steps.length)
      throw new BuildError(
        `state in ${this.path} was written by a newer version (${component} schema ${version})`,
        {
          code: Code.failedPrecondition,
          hint: 'use that version, or start with another root directory',
        },
      );
    if (version === steps.length) return;
    this.transaction(() => {
      for (const step of steps.slice(version)) this.#db.exec(step);
      this.run('INSERT OR REPLACE INTO schema VALUES (?, ?)', component, steps.length);
    });
  }

  get<Row>(sql: string, ...values: SqlValue[]): Row | undefined {
    return this.#pastDamage(() => this.#prepare(sql).get(...values) as Row | undefined);
  }

  all<Row>(sql: string, ...values: SqlValue[]): Row[] {
    return this.#pastDamage(() => this.#prepare(sql).all(...values) as Row[]);
  }

  /** Rows changed. */
  run(sql: string, ...values: SqlValue[]): number {
    if (this.#depth > 0) return Number(this.#prepare(sql).run(...values).changes);
    const write = () => this.#prepare(sql).run(...values);
    const { changes } = this.#pastDamage(() => this.#withRoom(write));
    this.#markDirty();
    return Number(changes);
  }

  get isOpen(): boolean {
    return this.#db.isOpen;
  }

  /**
   * All of `work` or nothing. Nested calls join the outermost. `work` must not await, and is run once more
   * where the disk was full at first.
   */
  transaction<T>(work: () => T): T {
    if (this.#depth > 0) return this.#nested(work);
    return this.#pastDamage(() => this.#withRoom(() => this.#outermost(work)));
  }

  /** A second try, with the room kept for it, when there is none on the disk. */
  #withRoom<T>(write: () => T): T {
    try {
      return write();
    } catch (error) {
      if ((error as { errcode?: unknown }).errcode !== SQLITE_FULL || !this.#reserve.release()) throw error;
      return write();
    }
  }

  #outermost<T>(work: () => T): T {
    this.#db.exec('BEGIN IMMEDIATE');
    this.#depth = 1;
    let result: T;
    try {
      result = work();
      this.#db.exec('COMMIT');
    } catch (error) {
      this.#depth = 0;
      this.#afterCommit = [];
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
    this.#depth = 0;
    this.#markDirty();
    const after = this.#afterCommit;
    if (after.length > 0) {
      this.#afterCommit = [];
      for (const action of after) action();
    }
    return result;
  }

  #nested<T>(work: () => T): T {
    this.#depth++;
    try {
      return work();
    } finally {
      this.#depth--;
    }
  }

  /** Runs `action` when the present transaction is committed; at once outside of one. It must not throw. */
  afterCommit(action: () => void): void {
    if (this.#depth === 0) action();
    else this.#afterCommit.push(action);
  }

  /** Resolves when everything committed so far would survive a power cut. */
  async flush(): Promise<void> {
    while (this.#dirty || this.#flushing) {
      this.#flushing ??= this.#sync().finally(() => {
        this.#flushing = undefined;
      });
      await this.#flushing;
    }
  }

  async #sync(): Promise<void> {
    this.#dirty = false;
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    this.#walFd ??= openSync(`${this.path}-wal`, 'r');
    await fdatasyncAsync(this.#walFd);
    this.#reserve.restore();
    if (this.checkpoint && !this.#checkpointing && fstatSync(this.#walFd).size > CHECKPOINT_BYTES) {
      this.#checkpointing = this.checkpoint()
        // Not urgent: the next one covers it, and a much larger log is dealt with by SQLite itself.
        .catch(() => {})
        .finally(() => {
          this.#checkpointing = undefined;
        });
    }
  }

  #markDirty(): void {
    this.#dirty = true;
    this.#flushTimer ??= setTimeout(() => {
      this.#flushTimer = undefined;
      // A failing disk shows up in the next commit or in whoever calls flush itself.
      this.flush().catch(() => {});
    }, FLUSH_DELAY_MS).unref();
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Waits for background work, then closes. */
  async close(): Promise<void> {
    await this.flush();
    await this.#checkpointing;
    this[Symbol.dispose]();
  }

  /** Closes after a last checkpoint, which also makes everything durable. */
  [Symbol.dispose](): void {
    clearTimeout(this.#flushTimer);
    this.#statements.clear();
    if (this.#db.isOpen) this.#db.close();
    this.#closeLog();
  }

  #closeLog(): void {
    const fd = this.#walFd;
    this.#walFd = undefined;
    // A sync under way still uses the descriptor.
    if (fd !== undefined) (this.#flushing ?? Promise.resolve()).catch(() => {}).then(() => closeSync(fd));
  }
}

/** @throws what SQLite throws for a damaged file */
function openFile(path: string): DatabaseSync {
  const db = new DatabaseSync(path);
  try {
    db.exec(
      'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;' +
        ` PRAGMA wal_autocheckpoint=${FORCED_CHECKPOINT_PAGES}; PRAGMA journal_size_limit=${KEPT_LOG_BYTES};`,
    );
    db.exec(
      'CREATE TABLE IF NOT EXISTS schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID',
    );
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Where a damaged database is put; the one before it goes. */
export function asideOf(path: string): string {
  return `${path}.damaged`;
}

/** Moves a damaged file, with its log, aside and puts what can be read of it in its place. */
export function rebuildFile(path: string): Salvaged {
  const aside = asideOf(path);
  const half = `${path}-rebuilding`;
  for (const suffix of ['', '-wal', '-shm']) {
    rmSync(aside + suffix, { force: true });
    if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
  }
  rmSync(half, { force: true });
  const salvaged = salvage(aside, half);
  if (existsSync(half)) renameSync(half, path);
  return salvaged;
}

const SQLITE_FULL = 13;
/** Size of the log from which it is moved into the file in the background. */
const CHECKPOINT_BYTES = 4 * 1024 * 1024;
/** Size, in pages of 4 KiB, from which a commit does it itself, for whoever runs without background checkpoints. */
const FORCED_CHECKPOINT_PAGES = 8000;
/** What the log is cut to when it is written from its start again. */
const KEPT_LOG_BYTES = 1024 * 1024;
/** Commits within this time share one sync of the log. */
const FLUSH_DELAY_MS = 50;
