import { mkdirSync, rmSync, statSync } from 'node:fs';
import { open, rm, stat, writeFile } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, digestOf, isDigest } from '../../base/digest.ts';
import { BuildError, Code, errno, invalidArgument, notFound } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type {
  BlobInfo,
  BlobWriter,
  CommitOptions,
  CommitResult,
  ContentStore,
  IngestStatus,
  ReadOptions,
  WriterOptions,
} from '../content.ts';
import type { JobRunner } from '../../pool/types.ts';
import type { Collector } from '../collector.ts';
import type { Database } from '../database.ts';
import type { StoreFiles } from '../files.ts';
import { type GcNode, labelTargets } from '../gc.ts';
import type { StoreJobs } from '../jobs.ts';
import type { SqlLeaseStore } from '../lease-store.ts';
import type { Trash } from '../trash.ts';
import { type BlobRow, blobInfo } from './blob-row.ts';
import { Ingests } from './ingests.ts';
import { SoundFiles, stampOf } from './sound-files.ts';

export interface LocalContentOptions {
  readonly db: Database;
  readonly leases: SqlLeaseStore;
  readonly collector: Collector;
  readonly trash: Trash;
  readonly files: StoreFiles;
  readonly log: Logger;
  readonly jobs: JobRunner<StoreJobs>;
  /** State directory; blobs go to `content/` and unfinished files to `tmp/` below it. */
  readonly dir: string;
}

const READ_CHUNK_BYTES = 1024 * 1024;
const LIST_PAGE = 256;
const MAX_READ_ALL_BYTES = 64 * 1024 * 1024;

type Publish = { digest: Digest; size: number } & Pick<CommitOptions, 'labels' | 'lease' | 'volatile'>;

/** Blobs as files named by digest, everything else about them in the database. */
export class LocalContentStore implements ContentStore {
  readonly #db: Database;
  readonly #options: LocalContentOptions;
  readonly #dir: string;
  readonly #tmp: string;
  readonly #ingests: Ingests;
  readonly #sound = new SoundFiles();
  readonly #publishing = new Map<Digest, Promise<void>>();
  #counter = 0;

  constructor(options: LocalContentOptions) {
    this.#options = options;
    this.#db = options.db;
    this.#dir = join(options.dir, 'content');
    this.#tmp = join(options.dir, 'tmp');
    mkdirSync(join(this.#dir, 'sha256'), { recursive: true, mode: 0o700 });
    mkdirSync(this.#tmp, { recursive: true, mode: 0o700 });
    this.#ingests = new Ingests((name) => this.tmpPath(name), {
      publish: (path, publish) => this.#publish(path, publish),
      exists: (digest) => this.has(digest),
    });
  }

  writer(options: WriterOptions): Promise<BlobWriter> {
    return this.#ingests.open(options);
  }

  ingests(): readonly IngestStatus[] {
    return this.#ingests.list();
  }

  abortIngest(ref: string): Promise<void> {
    return this.#ingests.abort(ref);
  }

  async commitFile(path: string, options: Publish): Promise<CommitResult> {
    if (!path.startsWith(this.#tmp + sep)) throw invalidArgument(`file ${path} is not in ${this.#tmp}`);
    const { size } = await stat(path);
    if (size !== options.size)
      throw new BuildError(`unexpected size of ${options.digest}: ${size}, expected ${options.size}`, {
        code: Code.failedPrecondition,
      });
    return await orRemove(path, () => this.#publish(path, options));
  }

  async writeBlob(
    data: Uint8Array,
    options: { digest?: Digest } & Pick<CommitOptions, 'labels' | 'lease' | 'volatile'> = {},
  ): Promise<CommitResult> {
    const digest = digestOf(data);
    if (options.digest !== undefined && options.digest !== digest)
      throw new BuildError(`unexpected commit digest ${digest}, expected ${options.digest}`, {
        code: Code.failedPrecondition,
      });
    const publish = { ...options, digest, size: data.length };
    await this.#distrust(digest);
    const existing = this.#adopt(publish);
    if (existing) return existing;
    const path = this.tmpPath('blob');
    return await orRemove(path, async () => {
      await writeFile(path, data, { flag: 'wx', mode: 0o600 });
      return await this.#publish(path, publish);
    });
  }

  /**
   * One publication of a digest at a time: otherwise the collector could take the file of a second one whose
   * row is still to come, together with the first one's row.
   */
  async #publish(path: string, publish: Publish): Promise<CommitResult> {
    const { digest } = publish;
    while (this.#publishing.has(digest)) await this.#publishing.get(digest);
    const done = Promise.withResolvers<void>();
    this.#publishing.set(digest, done.promise);
    try {
      return await this.#publishAlone(path, publish);
    } finally {
      this.#publishing.delete(digest);
      done.resolve();
    }
  }

  /** Order matters for crashes: journal, rename, sync, row. After a failure nothing but `path` may be left. */
  async #publishAlone(path: string, publish: Publish): Promise<CommitResult> {
    await this.#distrust(publish.digest);
    const existing = this.#adopt(publish);
    if (existing) {
      this.#options.trash.take(path);
      return existing;
    }
    const target = this.#file(publish.digest);
    const relative = target.slice(this.#options.dir.length + 1);
    this.#db.run('INSERT OR IGNORE INTO doomed VALUES (?)', relative);
    try {
      await this.#options.files.rename(path, target);
      if (!publish.volatile) await this.#options.files.sync(target);
      this.#insert(publish, relative);
    } catch (error) {
      // A full disk, or the lease is gone. Nobody else can have made a row meanwhile.
      if (!this.has(publish.digest)) {
        rmSync(target, { force: true });
        this.#db.run('DELETE FROM doomed WHERE path = ?', relative);
      }
      throw error;
    }
    this.#sound.remember(publish.digest, target);
    return { digest: publish.digest, size: publish.size, alreadyExists: false };
  }

  /** Good bytes are at hand: a damaged blob must not be taken for them. */
  async #distrust(digest: Digest): Promise<void> {
    if (this.has(digest)) await this.isSound(digest);
  }

  #insert(publish: Publish, journal: string): void {
    const { digest, size, labels = {} } = publish;
    const now = Date.now();
    this.#db.transaction(() => {
      this.#db.run('DELETE FROM doomed WHERE path = ?', journal);
      this.#db.run(
        'INSERT INTO blobs VALUES (?, ?, ?, ?, ?)',
        digest,
        size,
        now,
        now,
        JSON.stringify(labels),
      );
      this.#writeEdges(digest, labels);
      this.#keep(publish);
    });
  }

  /** Adds the lease and labels to a blob that is there. */
  #adopt(publish: Publish): CommitResult | undefined {
    return this.#db.transaction(() => {
      const info = this.info(publish.digest);
      if (!info || !this.#intact(info)) return undefined;
      if (publish.labels && Object.keys(publish.labels).length > 0)
        this.updateLabels(publish.digest, publish.labels);
      this.#keep(publish);
      return { digest: publish.digest, size: info.size, alreadyExists: true };
    });
  }

  #keep(publish: Publish): void {
    if (publish.lease !== undefined) {
      this.#options.leases.add(publish.lease, { kind: 'content', id: publish.digest });
      return;
    }
    this.#options.collector.suspect({ kind: 'content', id: publish.digest });
    this.#db.afterCommit(() => this.#options.collector.schedule());
  }

  info(digest: Digest): BlobInfo | undefined {
    const row = this.#db.get<BlobRow>('SELECT * FROM blobs WHERE digest = ?', digest);
    return row && blobInfo(row);
  }

  has(digest: Digest): boolean {
    const info = this.info(digest);
    return info !== undefined && this.#intact(info);
  }

  updateLabels(digest: Digest, labels: Readonly<Record<string, string | null>>): BlobInfo {
    return this.#db.transaction(() => {
      const info = this.info(digest);
      if (!info) throw blobNotFound(digest);
      const merged: Record<string, string> = { ...info.labels };
      for (const [key, value] of Object.entries(labels)) {
        if (value === null) delete merged[key];
        else merged[key] = value;
      }
      const now = Date.now();
      this.#db.run(
        'UPDATE blobs SET labels = ?, updated_at = ? WHERE digest = ?',
        JSON.stringify(merged),
        now,
        digest,
      );
      for (const lost of this.#writeEdges(digest, merged)) this.#options.collector.suspect(lost);
      return { ...info, labels: merged, updatedAt: new Date(now) };
    });
  }

  /** Replaces the edges of a blob; returns the former targets. */
  #writeEdges(digest: Digest, labels: Readonly<Record<string, string>>): readonly GcNode[] {
    const former = this.#db.all<GcNode>('SELECT kind, target AS id FROM blob_edges WHERE digest = ?', digest);
    if (former.length > 0) this.#db.run('DELETE FROM blob_edges WHERE digest = ?', digest);
    for (const target of labelTargets(labels))
      this.#db.run('INSERT OR IGNORE INTO blob_edges VALUES (?, ?, ?)', digest, target.kind, target.id);
    return former;
  }

  async *list(): AsyncIterable<BlobInfo> {
    for (let after = ''; ; ) {
      const page = this.#db.all<BlobRow>(
        'SELECT * FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?',
        after,
        LIST_PAGE,
      );
      for (const row of page) yield blobInfo(row);
      const last = page.at(-1);
      if (!last || page.length < LIST_PAGE) return;
      after = last.digest;
    }
  }

  async *read(digest: Digest, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    const { offset = 0, length = Number.POSITIVE_INFINITY, signal } = options;
    if (offset < 0 || length < 0) throw invalidArgument(`invalid range ${offset}+${length} of ${digest}`);
    signal?.throwIfAborted();
    await using file = await open(this.path(digest), 'r');
    const { size } = await file.stat();
    const end = Math.min(size, offset + length);
    for (let at = offset; at < end; ) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_CHUNK_BYTES, end - at));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      signal?.throwIfAborted();
      if (bytesRead === 0)
        throw new BuildError(`blob ${digest}: unexpected end of file`, { code: Code.dataLoss });
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async readAll(
    digest: Digest,
    options: { maxBytes?: number; signal?: AbortSignal } = {},
  ): Promise<Uint8Array> {
    const limit = options.maxBytes ?? MAX_READ_ALL_BYTES;
    const size = this.info(digest)?.size ?? 0;
    if (size > limit)
      throw new BuildError(`blob ${digest} is too large: ${size} bytes, limit ${limit}`, {
        code: Code.resourceExhausted,
      });
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.read(digest, options)) chunks.push(chunk);
    const data = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
    if (digestOf(data) === digest) return data;
    this.#drop(digest, 'its bytes are not what its digest says');
    throw blobNotFound(digest);
  }

  path(digest: Digest): string {
    const info = this.info(digest);
    if (!info || !this.#intact(info)) throw blobNotFound(digest);
    return this.#file(digest);
  }

  async verify(digest: Digest, options: { signal?: AbortSignal } = {}): Promise<boolean> {
    const info = this.info(digest);
    if (!info || !this.#intact(info)) return false;
    const path = this.#file(digest);
    const before = stampOf(path);
    try {
      if ((await this.#options.jobs.run('fileDigest', { path }, options)) === digest) {
        this.#sound.set(digest, before);
        return true;
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!isReadFailure(error)) throw error;
    }
    if (this.has(digest)) this.#drop(digest, 'its bytes are not what its digest says');
    return false;
  }

  async isSound(digest: Digest, options: { signal?: AbortSignal } = {}): Promise<boolean> {
    const info = this.info(digest);
    if (!info || !this.#intact(info)) return false;
    return this.#sound.has(digest, this.#file(digest)) || (await this.verify(digest, options));
  }

  tmpPath(hint: string): string {
    mkdirSync(this.#tmp, { recursive: true, mode: 0o700 });
    return join(
      this.#tmp,
      `${hint.replaceAll(/[^\w.-]/g, '_').slice(0, 40)}-${process.pid}-${this.#counter++}`,
    );
  }

  /** Removes the row; the file follows when the transaction is committed. For the collector. */
  remove(digest: Digest): readonly GcNode[] | undefined {
    if (this.#db.run('DELETE FROM blobs WHERE digest = ?', digest) === 0) return undefined;
    const targets = this.#writeEdges(digest, {});
    const path = this.#file(digest);
    const relative = path.slice(this.#options.dir.length + 1);
    this.#db.run('INSERT OR IGNORE INTO doomed VALUES (?)', relative);
    this.#db.afterCommit(() => {
      this.#options.trash.take(path);
      this.#db.run('DELETE FROM doomed WHERE path = ?', relative);
    });
    return targets;
  }

  /** A file that a crash or somebody else damaged is as good as none: it is dropped with a warning. */
  #intact(info: BlobInfo): boolean {
    const found = statSync(this.#file(info.digest), { throwIfNoEntry: false });
    if (found?.size === info.size) return true;
    this.#drop(info.digest, found ? `its size is ${found.size}, not ${info.size}` : 'its file is missing');
    return false;
  }

  #drop(digest: Digest, why: string): void {
    this.#options.log.warn(`dropping damaged blob: ${why}`, { digest });
    this.#db.transaction(() => {
      for (const target of this.remove(digest) ?? []) this.#options.collector.suspect(target);
    });
  }

  #file(digest: Digest): string {
    if (!isDigest(digest) || digestAlgorithm(digest) !== 'sha256') throw unsupported(digest);
    return join(this.#dir, 'sha256', digestHex(digest));
  }

  async close(): Promise<void> {
    await this.#ingests.close();
  }
}

/** `path` belongs to `work`, and must not stay when that fails: it would fill a disk that is full already. */
async function orRemove<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/** A file that is gone or that the disk does not give back. */
function isReadFailure(error: unknown): boolean {
  return ['ENOENT', 'EIO', 'EISDIR'].includes(errno(error) ?? errno((error as Error).cause) ?? '');
}

function blobNotFound(digest: Digest): BuildError {
  return notFound(`content ${digest}: not found`);
}

function unsupported(digest: string): BuildError {
  return invalidArgument(`unsupported digest ${JSON.stringify(digest)}`);
}
