import { randomBytes } from 'node:crypto';
import { BuildError, Code, notFound } from '../base/errors.ts';
import type { Database } from './database.ts';
import {
  type HeldLease,
  type LeaseInfo,
  type LeaseOptions,
  type LeaseResource,
  type LeaseStore,
  TEMPORARY_LEASE_MS,
} from './lease.ts';

interface LeaseRow {
  id: string;
  created_at: number;
  expires_at: number | null;
  flat: number;
  temporary: number;
  labels: string;
}

const QUEUE_RESOURCES = `INSERT OR IGNORE INTO gc_queue SELECT kind, id FROM lease_resources WHERE lease = ?`;

/** Leases in the database. What a lease lets go is queued for the collector in the same transaction. */
export class SqlLeaseStore implements LeaseStore {
  readonly #db: Database;
  readonly #onGarbage: () => void;

  /** @param onGarbage called when something was queued for collection. */
  constructor(db: Database, onGarbage: () => void) {
    this.#db = db;
    this.#onGarbage = onGarbage;
  }

  create(options: LeaseOptions = {}): LeaseInfo {
    const id = options.id ?? randomBytes(16).toString('hex');
    const now = Date.now();
    const expires = options.expiresInMs === undefined ? null : now + options.expiresInMs;
    const added = this.#db.run(
      'INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?, ?, ?)',
      id,
      now,
      expires,
      options.flat ? 1 : 0,
      options.temporary ? 1 : 0,
      JSON.stringify(options.labels ?? {}),
    );
    if (added === 0) throw new BuildError(`lease "${id}": already exists`, { code: Code.alreadyExists });
    return {
      id,
      createdAt: new Date(now),
      expiresAt: expires === null ? undefined : new Date(expires),
      flat: options.flat ?? false,
      temporary: options.temporary ?? false,
      labels: options.labels ?? {},
    };
  }

  hold(options: Omit<LeaseOptions, 'temporary'> = {}): HeldLease {
    const { id } = this.create({ expiresInMs: TEMPORARY_LEASE_MS, ...options, temporary: true });
    let held = true;
    return {
      id,
      [Symbol.dispose]: () => {
        // After the store is closed the next start deletes it.
        const isHeld = held && this.#db.isOpen;
        held = false;
        try {
          if (isHeld) this.delete(id);
        } catch {
          // A full disk: its time is over in an hour, and what failed before that is what counts.
        }
      },
    };
  }

  get(id: string): LeaseInfo | undefined {
    const row = this.#db.get<LeaseRow>('SELECT * FROM leases WHERE id = ?', id);
    return row && leaseInfo(row);
  }

  has(id: string): boolean {
    return this.#db.get('SELECT 1 FROM leases WHERE id = ?', id) !== undefined;
  }

  list(): readonly LeaseInfo[] {
    return this.#db.all<LeaseRow>('SELECT * FROM leases ORDER BY id').map(leaseInfo);
  }

  delete(id: string): void {
    const queued = this.#db.transaction(() => {
      const count = this.#db.run(QUEUE_RESOURCES, id);
      this.#db.run('DELETE FROM lease_resources WHERE lease = ?', id);
      this.#db.run('DELETE FROM leases WHERE id = ?', id);
      return count;
    });
    if (queued > 0) this.#onGarbage();
  }

  add(id: string, resource: LeaseResource): void {
    const added = this.#db.run(
      'INSERT OR IGNORE INTO lease_resources SELECT id, ?, ? FROM leases WHERE id = ?',
      resource.kind,
      resource.id,
      id,
    );
    if (added === 0 && this.get(id) === undefined) throw notFound(`lease "${id}": not found`);
  }

  drop(id: string, resource: LeaseResource): void {
    const dropped = this.#db.transaction(() => {
      const count = this.#db.run(
        'DELETE FROM lease_resources WHERE lease = ? AND kind = ? AND id = ?',
        id,
        resource.kind,
        resource.id,
      );
      if (count > 0) this.#db.run('INSERT OR IGNORE INTO gc_queue VALUES (?, ?)', resource.kind, resource.id);
      return count;
    });
    if (dropped > 0) this.#onGarbage();
  }

  resources(id: string): readonly LeaseResource[] {
    return this.#db.all<LeaseResource>(
      'SELECT kind, id FROM lease_resources WHERE lease = ? ORDER BY kind, id',
      id,
    );
  }

  holders({ kind, id }: LeaseResource): readonly string[] {
    return this.#db
      .all<{ lease: string }>(
        `SELECT r.lease FROM lease_resources r JOIN leases l ON l.id = r.lease
         WHERE r.kind = ? AND r.id = ? AND (l.expires_at IS NULL OR l.expires_at > ?) ORDER BY r.lease`,
        kind,
        id,
        Date.now(),
      )
      .map(({ lease }) => lease);
  }

  /** Leases of work that a dead daemon left, and those whose time is over. */
  deleteStale(options: { temporary: boolean }): void {
    const stale = this.#db.all<{ id: string }>('SELECT id FROM leases WHERE expires_at <= ?', Date.now());
    if (options.temporary)
      stale.push(...this.#db.all<{ id: string }>('SELECT id FROM leases WHERE temporary = 1'));
    if (stale.length > 0)
      this.#db.transaction(() => {
        for (const { id } of stale) this.delete(id);
      });
  }
}

function leaseInfo(row: LeaseRow): LeaseInfo {
  return {
    id: row.id,
    createdAt: new Date(row.created_at),
    expiresAt: row.expires_at === null ? undefined : new Date(row.expires_at),
    flat: row.flat === 1,
    temporary: row.temporary === 1,
    labels: JSON.parse(row.labels) as Record<string, string>,
  };
}
