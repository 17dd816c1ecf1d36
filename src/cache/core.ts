import { BuildError, Code, notFound } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Digest } from '../base/digest.ts';
import type { ContentStore } from '../store/content.ts';
import type { LeaseStore } from '../store/lease.ts';
import type { LocalMounter } from '../store/local-mounter.ts';
import type { Snapshotter } from '../store/snapshot.ts';
import { DamagedRecordError, rowProblem } from './damage.ts';
import type { LayerJobs } from './layer-jobs.ts';
import { LiveRecord } from './live-record.ts';
import type { RecordRow, RecordTable } from './records.ts';
import type { LockedError } from './ref.ts';

/** Pause between attempts to remove a record that could not be removed, milliseconds. */
const DISCARD_RETRY_MS = 2_000;

/** For this long a tree that was there is taken to be there still, milliseconds. */
const SEEN_MS = 1_000;

export interface CacheParts {
  readonly table: RecordTable;
  readonly content: ContentStore;
  readonly snapshots: Snapshotter;
  readonly leases: LeaseStore;
  readonly jobs: LayerJobs;
  readonly mounter: LocalMounter;
  readonly log: Logger;
  /** A record goes: told within the transaction that removes it. */
  readonly removed?: (id: string) => void;
}

/** The records in memory and the rules of their life; shared by the files of this room. */
export class CacheCore {
  readonly parts: CacheParts;
  readonly #live = new Map<string, LiveRecord>();
  /** Records whose parents are being loaded: one that comes again is made from itself. */
  readonly #adopting = new Set<string>();
  /** Told when the last record is let go. */
  #onEmpty: (() => void) | undefined;

  constructor(parts: CacheParts) {
    this.parts = parts;
  }

  isLive(id: string): boolean {
    return this.#live.has(id);
  }

  live(id: string): LiveRecord | undefined {
    return this.#live.get(id);
  }

  liveRecords(): Iterable<LiveRecord> {
    return this.#live.values();
  }

  get liveCount(): number {
    return this.#live.size;
  }

  /** The record with its parents, taken into memory; `hold` it before anything is awaited. */
  load(id: string): LiveRecord | undefined {
    return this.#load(id, new Map());
  }

  /** Same for a row at hand. A record whose parent is gone is removed: it can never be used again. */
  adopt(row: RecordRow): LiveRecord | undefined {
    return this.#adopt(row, new Map());
  }

  /** The record of a row just written. */
  create(row: RecordRow, parents: readonly LiveRecord[]): LiveRecord {
    return new LiveRecord(this.parts.table, row, parents, undefined);
  }

  /** `made` are the records of this call, which nobody holds yet: one may be reached on several ways. */
  #load(id: string, made: Map<string, LiveRecord>): LiveRecord | undefined {
    const known = this.#live.get(id) ?? made.get(id);
    if (known) return known;
    const row = this.parts.table.get(id);
    return row && this.#adopt(row, made);
  }

  #adopt(row: RecordRow, made: Map<string, LiveRecord>): LiveRecord | undefined {
    const known = this.#live.get(row.id);
    if (known) return known;
    const { table } = this.parts;
    const problem = rowProblem(row) ?? (this.#adopting.has(row.id) ? 'it stands on itself' : undefined);
    if (problem !== undefined) return this.#dropRow(row, problem);
    const ids = table.parents(row);
    this.#adopting.add(row.id);
    const parents = ids.map((id) => this.#load(id, made)).filter((parent) => parent !== undefined);
    const equal = row.equal_mutable === null ? undefined : this.#load(row.equal_mutable, made);
    this.#adopting.delete(row.id);
    if (parents.length < ids.length || (row.equal_mutable !== null && !equal))
      return this.#dropRow(row, 'its parent is gone');
    this.#restoreLease(row);
    const record = new LiveRecord(table, row, parents, equal);
    made.set(row.id, record);
    return record;
  }

  /** Without its lease a record would lose its tree and blob to the collector. */
  #restoreLease({ id, snapshot, blob, equal_mutable }: RecordRow): void {
    const { leases, log, table } = this.parts;
    if (leases.has(id)) return;
    log.warn('a record had lost its lease', { id });
    table.db.transaction(() => {
      leases.create({ id, flat: true });
      if (equal_mutable === null) leases.add(id, { kind: 'snapshot', id: snapshot });
      if (blob !== null) leases.add(id, { kind: 'content', id: blob });
    });
  }

  #dropRow(row: RecordRow, why: string): undefined {
    this.parts.log.warn(`dropping a record: ${why}`, { id: row.id });
    this.removeRow(row.id);
  }

  /** Drops a record that has lost something for good. Those made from it follow when they are asked for. */
  damaged(record: LiveRecord, what: string, cause?: unknown): DamagedRecordError {
    this.#dropRow(record.row, what);
    return new DamagedRecordError(record.id, what, cause);
  }

  /** Keeps the record, and with it its parents, in memory and from pruning. */
  hold(record: LiveRecord): void {
    if (record.users++ > 0) return;
    this.#live.set(record.id, record);
    for (const parent of record.parents) this.hold(parent);
    if (record.equalMutable) this.hold(record.equalMutable);
  }

  letGo(record: LiveRecord): void {
    if (--record.users > 0) return;
    if (this.#live.get(record.id) === record) this.#live.delete(record.id);
    if (record.isPassing) this.discard(record.id);
    if (this.#live.size === 0) this.#onEmpty?.();
    if (record.equalMutable) this.letGo(record.equalMutable);
    for (const parent of record.parents) this.letGo(parent);
  }

  /**
   * Waits until nothing is held any more; false when that takes longer than `limitMs`. Shared work that nobody
   * waits for goes on until it has noticed.
   */
  async empty(limitMs: number): Promise<boolean> {
    if (this.#live.size === 0) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, limitMs);
    this.#onEmpty = resolve;
    await promise;
    clearTimeout(timer);
    this.#onEmpty = undefined;
    return this.#live.size === 0;
  }

  /** Holds for the time of `work`. */
  async holding<T>(record: LiveRecord, work: () => Promise<T>): Promise<T> {
    this.hold(record);
    try {
      return await work();
    } finally {
      this.letGo(record);
    }
  }

  /** Deletes rows and leases; the collector takes snapshot and blobs that nothing else holds. */
  removeRow(id: string): void {
    const { table, leases, removed } = this.parts;
    table.db.transaction(() => {
      const equal = table.equalImmutable(id);
      this.#forgetSharedSizes(id);
      table.delete(id);
      if (equal) this.removeRow(equal.id);
      leases.delete(id);
      leases.delete(variantsLease(id));
      removed?.(id);
    });
  }

  /** One of the others counts from now on what the record `id` shared with them. */
  #forgetSharedSizes(id: string): void {
    const { table } = this.parts;
    const row = table.get(id);
    if (!row || row.size === null) return;
    for (const other of table.sharers(row)) {
      const its = this.#live.get(other)?.row ?? table.get(other);
      if (its) table.update(its, { size: null });
    }
  }

  /**
   * Removes a record that was not finished, and tries again later when that cannot be written now: on a full disk it
   * would stay until the next start.
   */
  discard(id: string): void {
    try {
      this.removeRow(id);
    } catch (error) {
      this.parts.log.warn('could not remove a record yet', { id, error });
      setTimeout(() => this.parts.table.db.isOpen && this.discard(id), DISCARD_RETRY_MS).unref();
    }
  }

  /** Makes the snapshot of a committed mutable the record's own (FEATURES F1). Synchronous and idempotent. */
  finalize(record: LiveRecord): void {
    const mutable = record.equalMutable;
    if (!mutable) return;
    const { table, leases, snapshots } = this.parts;
    table.db.transaction(() => {
      leases.add(record.id, { kind: 'snapshot', id: record.row.snapshot });
      snapshots.commit(record.row.snapshot, mutable.row.snapshot);
      table.update(record.row, { equal_mutable: null, size: null });
      this.removeRow(mutable.id);
    });
    record.equalMutable = undefined;
    this.letGo(mutable);
  }

  /** The record's own tree is on disk; those below it may be lost. */
  isExtracted(record: LiveRecord): boolean {
    return this.parts.snapshots.isWhole(record.snapshot, record.equalMutable ? 'active' : 'committed');
  }

  /** Neither tree nor blob is here: only a provider can bring it. */
  isLazy(record: LiveRecord): boolean {
    const { blob } = record.row;
    return blob !== null && !this.parts.content.has(blob) && !this.isExtracted(record);
  }

  /**
   * Looks whether all that the record needs is here or can be brought, by what the disk says of its files.
   * @throws DamagedRecordError when something is lost, MissingProvidersError when only a provider could bring it
   */
  checkUsable(record: LiveRecord): void {
    const missing: Digest[] = [];
    const now = performance.now();
    for (const one of record.ancestors()) {
      // A build loads layer after layer: those below are held meanwhile, and were just looked at.
      if (one.kind !== 'layer' || one.provider || now - one.seenAt < SEEN_MS) continue;
      if (this.isExtracted(one)) {
        one.seenAt = now;
        continue;
      }
      const { blob } = one.row;
      if (blob === null) throw this.damaged(one, `snapshot ${one.row.snapshot} is lost`);
      if (!this.parts.content.has(blob)) missing.push(blob);
    }
    if (missing.length > 0) throw new MissingProvidersError(missing);
  }

  /** The same for the bytes of blobs that nobody has unpacked yet: reads those that it does not know. */
  async checkBlobs(record: LiveRecord): Promise<void> {
    for (const one of record.ancestors()) {
      const { blob } = one.row;
      if (one.kind !== 'layer' || blob === null || one.provider || one.seenAt > 0 || this.isExtracted(one))
        continue;
      if (!(await this.parts.content.isSound(blob))) throw new MissingProvidersError([blob]);
    }
  }

  countUse(record: LiveRecord): void {
    const { row } = record;
    try {
      this.parts.table.update(row, { last_used_at: Date.now(), usage_count: row.usage_count + 1 });
    } catch (error) {
      // A full disk must not keep anybody from letting go.
      this.parts.log.warn('could not count a use', { id: row.id, error });
    }
  }
}

export function variantsLease(id: string): string {
  return `${id}-variants`;
}

/** A lazy layer of a record can not be brought: the record is a cache miss (FEATURES F4). */
export class MissingProvidersError extends BuildError {
  readonly digests: readonly Digest[];

  constructor(digests: readonly Digest[]) {
    super(`missing descriptor handlers for lazy blobs ${digests.join(', ')}`, { code: Code.notFound });
    this.digests = digests;
  }
}

export function recordNotFound(id: string): BuildError {
  return notFound(`${id}: not found`);
}

class LockedBuildError extends BuildError implements LockedError {
  readonly locked = true;
}

export function lockedError(id: string): LockedError {
  return new LockedBuildError(`${id} is locked: locked`, { code: Code.unavailable });
}

/** True for the error of a mutable record that somebody else holds. */
export function isLocked(error: unknown): error is LockedError {
  return error instanceof LockedBuildError;
}
