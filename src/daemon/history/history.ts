import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Running } from '../../base/running.ts';
import { abortable } from '../../base/shared-task.ts';
import { BuildError, invalidArgument, notFound } from '../../base/errors.ts';
import type { Digest } from '../../base/digest.ts';
import type { Logger } from '../../base/log.ts';
import * as pb from '../../pb/control.ts';
import type { CheckOptions, Finding } from '../../fsck/finding.ts';
import type { ContentStore } from '../../store/content.ts';
import type { Database } from '../../store/database.ts';
import type { LeaseStore } from '../../store/lease.ts';
import { checkHistory } from './check.ts';
import { recordFilter } from './filter.ts';
import { LateRecords } from './late-records.ts';
import { Listeners } from './listeners.ts';
import { decodeFrames } from './log-frames.ts';
import { recordAttrs } from './record-attrs.ts';
import { RecordTable, recordLease } from './record-table.ts';
import { FINISH_LIMIT_MS, Recording, resultInfo } from './recording.ts';
import { TRACE_MEDIA_TYPE, traceLines } from './trace.ts';
import { closedRecord, dropOrphans, type Leftovers } from './recover.ts';

/** How often old records are looked for, milliseconds (FEATURES A21). */
const GC_INTERVAL_MS = 120_000;
/** How long the end of the daemon waits for documents that are being added, milliseconds. */
const CLOSE_LIMIT_MS = 5_000;
/** Spans of a trace written at once. */
const TRACE_LINES = 256;
const { STARTED, COMPLETE, DELETED } = pb.BuildHistoryEventType;

export interface HistoryOptions {
  readonly db: Database;
  readonly content: ContentStore;
  readonly leases: LeaseStore;
  /** Collects what deleted records have let go. */
  readonly collect: () => Promise<unknown>;
  /** Told of each record that goes. */
  readonly deleted?: (ref: string) => void;
  readonly log: Logger;
  /** Logs of running builds lie here. */
  readonly dir: string;
  readonly maxAgeMs: number;
  readonly maxEntries: number;
  /** For tests. */
  readonly finishLimitMs?: number;
  readonly retryMs?: number;
}

/** What a build is recorded with. */
export interface RecordedRequest {
  readonly ref: string;
  readonly frontend: string;
  readonly frontendAttrs: Readonly<Record<string, string>>;
  readonly exporters: readonly { readonly type: string; readonly attrs: Readonly<Record<string, string>> }[];
}

/** A build that runs. */
interface Active {
  readonly record: pb.BuildHistoryRecord;
  readonly done: Promise<void>;
  readonly end: () => void;
}

/**
 * Records of builds (FEATURES B34-B38): rows in the database, and everything large in blobs that the lease of the
 * record keeps. In memory are the builds that run, and the listeners.
 */
export class History implements AsyncDisposable {
  readonly #options: HistoryOptions;
  readonly #table: RecordTable;
  readonly #listeners = new Listeners();
  readonly #active = new Map<string, Active>();
  /** How many listen to one build; while there are any, its blobs stay although it was deleted. */
  readonly #watchers = new Map<string, number>();
  readonly #deleted = new Set<string>();
  readonly #late: LateRecords;
  readonly #timer: NodeJS.Timeout;
  readonly #attaching = new Running();
  #stopping = false;
  #closed = false;
  /** Resolves when the records that a dead daemon left open are closed. Never rejects. */
  readonly recovered: Promise<void>;

  constructor(options: HistoryOptions) {
    this.#options = options;
    this.#table = new RecordTable(options.db);
    this.#late = new LateRecords((record) => this.#store(record), options.retryMs);
    mkdirSync(options.dir, { recursive: true, mode: 0o700 });
    this.recovered = this.#recover();
    this.#timer = setInterval(() => void this.collectOld(), GC_INTERVAL_MS).unref();
    void this.collectOld();
  }

  /** The record of a build that is about to start. */
  recording({ ref, frontend, frontendAttrs, exporters }: RecordedRequest): Recording {
    const record: pb.BuildHistoryRecord = {
      ...pb.BuildHistoryRecord.create(),
      Ref: ref,
      Frontend: frontend,
      FrontendAttrs: recordAttrs(frontendAttrs),
      Exporters: exporters.map(({ type, attrs }) => ({ Type: type, Attrs: recordAttrs(attrs) })),
    };
    const { content, leases, log } = this.#options;
    const lease = recordLease(ref);
    const keep = (id: Digest): void => leases.add(lease, { kind: 'content', id });
    return new Recording(record, {
      content,
      log,
      lease,
      keep,
      begin: (started) => this.#begin(started),
      complete: (complete) => this.#complete(complete),
      finishLimitMs: this.#options.finishLimitMs ?? FINISH_LIMIT_MS,
    });
  }

  #begin(record: pb.BuildHistoryRecord): string {
    const { db, leases, dir } = this.#options;
    const log = `${randomBytes(16).toString('hex')}.log`;
    const lease = recordLease(record.Ref);
    db.transaction(() => {
      if (leases.get(lease)) leases.delete(lease); // of a former build that had the same name
      leases.create({ id: lease, flat: true });
      this.#table.start(record, log);
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#active.set(record.Ref, { record, done: promise, end: resolve });
    this.#deleted.delete(record.Ref);
    this.#late.forget(record.Ref);
    this.#listeners.send({ type: STARTED, record });
    return join(dir, log);
  }

  #complete(record: pb.BuildHistoryRecord): void {
    try {
      this.#store(record);
    } catch (error) {
      this.#late.add(record);
      throw error;
    } finally {
      this.#active.get(record.Ref)?.end();
      this.#active.delete(record.Ref);
      this.#endIfStopped();
    }
  }

  #store(record: pb.BuildHistoryRecord): void {
    this.#table.complete(record);
    this.#listeners.send({ type: COMPLETE, record });
  }

  /** Resolves when the record of a running build is complete; undefined for a build that does not run. */
  ended(ref: string): Promise<void> | undefined {
    return this.#active.get(ref)?.done;
  }

  /** The log of a finished build; undefined when no such build is known. */
  log(ref: string, signal: AbortSignal): AsyncIterable<pb.StatusResponse> | undefined {
    const record = this.#active.has(ref) ? undefined : this.#table.get(ref);
    return record && readLog(record, this.#options.content, signal);
  }

  /**
   * Running builds, then finished ones (FEATURES B34), then what happens, until `signal` aborts or the daemon
   * stops. @throws for a filter that is not understood, and for a build that was deleted
   */
  async *listen(request: pb.BuildHistoryRequest, signal: AbortSignal): AsyncGenerator<pb.BuildHistoryEvent> {
    const { Ref: ref } = request;
    const matches = recordFilter(request.Filter);
    if (request.Limit < 0) throw invalidArgument(`invalid limit ${request.Limit}`);
    if (this.#deleted.has(ref)) throw notFound(`ref ${ref} is deleted: file does not exist`);
    using listener = this.#listeners.open();
    using _watch = this.#watch(ref);
    const wanted = (record: pb.BuildHistoryRecord): boolean =>
      (ref === '' || ref === record.Ref) && matches(record);
    for (const { record } of [...this.#active.values()]) if (wanted(record)) yield { type: STARTED, record };
    if (!request.ActiveOnly)
      for (const record of this.#stored(request, matches)) yield { type: COMPLETE, record };
    if (request.EarlyExit) return;
    for await (const event of listener.events(signal)) {
      const { type, record } = event;
      if (record && (type === DELETED ? ref === '' || ref === record.Ref : wanted(record))) yield event;
    }
    signal.throwIfAborted();
  }

  *#stored(
    { Ref: ref, Limit: limit }: pb.BuildHistoryRequest,
    matches: (record: pb.BuildHistoryRecord) => boolean,
  ): Generator<pb.BuildHistoryRecord> {
    const one = ref === '' ? undefined : this.#table.get(ref);
    const records = ref === '' ? this.#table.finished(limit > 0) : one ? [one] : [];
    let count = 0;
    for (const record of records) {
      if (!matches(record)) continue;
      yield record;
      if (++count === limit) return;
    }
  }

  #watch(ref: string): Disposable | undefined {
    if (ref === '') return undefined;
    this.#watchers.set(ref, (this.#watchers.get(ref) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#watchers.get(ref) ?? 1) - 1;
        if (left > 0) return void this.#watchers.set(ref, left);
        this.#watchers.delete(ref);
        if (this.#deleted.delete(ref) && !this.#closed) this.#options.leases.delete(recordLease(ref));
      },
    };
  }

  /**
   * Waits for the end of a build, and completes its record with a trace. There is none before somebody asks: most
   * are never looked at.
   */
  async finalize(ref: string, signal: AbortSignal): Promise<void> {
    const ended = this.ended(ref);
    if (ended) await abortable(ended, signal);
    const record = this.#table.get(ref);
    if (!record?.logs || record.trace) return;
    const { content } = this.#options;
    const lines = await traceLines(record, readLog(record, content, signal));
    await using writer = await content.writer({ ref: `trace of ${ref} ${randomBytes(8).toString('hex')}` });
    for (let at = 0; at < lines.length; at += TRACE_LINES)
      await writer.write(Buffer.from(lines.slice(at, at + TRACE_LINES).join('')));
    const { digest, size } = await writer.commit({ lease: recordLease(ref), volatile: true });
    const trace = { mediaType: TRACE_MEDIA_TYPE, digest, size: BigInt(size), annotations: {} };
    const now = this.#table.get(ref);
    if (now && !now.trace) this.#change({ ...now, trace });
  }

  /** Adds a document to the record of a build, once that is complete. Does nothing for a build without a record. */
  attach(ref: string, data: Uint8Array, mediaType: string): void {
    const work = this.#attaching.track(this.#attach(ref, data, mediaType));
    work.catch((error) => this.#options.log.warn('build history: cannot add a document', { ref, error }));
  }

  async #attach(ref: string, data: Uint8Array, mediaType: string): Promise<void> {
    await this.ended(ref);
    if (this.#closed || !this.#table.get(ref)) return;
    const written = await this.#options.content.writeBlob(data, { lease: recordLease(ref), volatile: true });
    const document = { mediaType, digest: written.digest, size: BigInt(written.size), annotations: {} };
    const record = this.#table.get(ref);
    if (!record) return;
    const info = record.Result ?? resultInfo();
    this.#change({ ...record, Result: { ...info, Attestations: [...info.Attestations, document] } });
  }

  /** Pins a record, so that it does not leave by age, or unpins it. @throws when there is none */
  pin(ref: string, pinned: boolean): void {
    const before = this.#table.get(ref);
    if (!before) throw notFound(`failed to retrieve ref ${ref}: file does not exist`);
    this.#change({ ...before, pinned });
  }

  #change(changed: pb.BuildHistoryRecord): void {
    this.#store({ ...changed, Generation: changed.Generation + 1 });
  }

  /** Deletes the record of a finished build, and what only it keeps. @throws when there is none */
  async delete(ref: string): Promise<void> {
    if (this.#active.has(ref))
      throw new BuildError(`failed to delete build record ${ref}: the build is running`);
    if (!this.#forget(ref)) throw notFound(`failed to delete build record ${ref}: not found`);
    await this.#options.collect();
  }

  #forget(ref: string): boolean {
    const { db, leases } = this.#options;
    const found = db.transaction(() => {
      if (!this.#table.delete(ref)) return false;
      this.#late.forget(ref);
      this.#options.deleted?.(ref);
      if (this.#watchers.has(ref)) this.#deleted.add(ref);
      else leases.delete(recordLease(ref));
      return true;
    });
    if (found) this.#listeners.send({ type: DELETED, record: pb.BuildHistoryRecord.create({ Ref: ref }) });
    return found;
  }

  /** Forgets the records that are both too old and too many; pinned ones stay. A few at a time. */
  async collectOld(now = Date.now()): Promise<void> {
    const { maxEntries, maxAgeMs, log } = this.#options;
    try {
      const outdated = this.#table.outdated(maxEntries, BigInt(Math.round(now - maxAgeMs)) * 1_000_000n);
      for (const ref of outdated) {
        await nextTurn();
        if (this.#closed) return;
        if (!this.#active.has(ref)) this.#forget(ref);
      }
    } catch (error) {
      log.warn('build history: cannot delete old records', { error });
    }
  }

  async #recover(): Promise<void> {
    const { db, content, leases, dir, log } = this.#options;
    const left: Leftovers = { db, table: this.#table, content, leases, dir };
    try {
      for (const open of dropOrphans(left)) {
        if (this.#closed) return; // the next start does the rest
        const record = await closedRecord(open, left);
        if (this.#active.has(record.Ref)) continue; // the name is in use again
        this.#store(record);
      }
    } catch (error) {
      log.warn('build history: cannot close the records of interrupted builds', { error });
    }
  }

  /** What is not as it should be, for a check of the store. */
  async *check(options: CheckOptions, discard: (path: string) => void): AsyncGenerator<Finding> {
    await this.recovered; // what a dead daemon left open is no damage
    const parts = {
      ...this.#options,
      table: this.#table,
      discard,
      isBusy: (ref: string) => this.#active.has(ref) || this.#deleted.has(ref) || this.#late.has(ref),
      change: (record: pb.BuildHistoryRecord) => this.#change(record),
      forget: (ref: string) => void this.#forget(ref),
    };
    yield* checkHistory(parts, options);
  }

  /** No new builds come: listeners end when those that run have ended. */
  stop(): void {
    this.#stopping = true;
    this.#endIfStopped();
  }

  #endIfStopped(): void {
    if (this.#stopping && this.#active.size === 0) this.#listeners.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#late.close();
    this.#listeners.end();
    await this.#attaching.ended(CLOSE_LIMIT_MS);
    await this.recovered;
  }
}

async function* readLog(
  { Ref: ref, logs }: pb.BuildHistoryRecord,
  content: ContentStore,
  signal: AbortSignal,
): AsyncGenerator<pb.StatusResponse> {
  if (!logs) return;
  try {
    for await (const { response } of decodeFrames(content.read(logs.digest as Digest, { signal })))
      yield response;
  } catch (error) {
    if (signal.aborted) throw error;
    throw BuildError.wrap(error, `cannot read the log of build ${ref}`);
  }
}
