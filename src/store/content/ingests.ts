import { type FileHandle, open, rm } from 'node:fs/promises';
import { giveBackChunk } from '../../base/chunks.ts';
import type { Digest } from '../../base/digest.ts';
import { BuildError, Code, notFound } from '../../base/errors.ts';
import { Sha256 } from '../../sys/sha256.ts';
import type { BlobWriter, CommitOptions, CommitResult, IngestStatus, WriterOptions } from '../content.ts';

/** Interrupted ingests kept for resumption; the longest unused ones beyond are forgotten. */
const MAX_IDLE_INGESTS = 64;
const HASH_CHUNK_BYTES = 1024 * 1024;
/** Bytes of a writer that are on their way to the disk while more come. */
const MAX_QUEUED_BYTES = 1024 * 1024;

export interface IngestHost {
  publish(
    path: string,
    options: { digest: Digest; size: number } & Pick<CommitOptions, 'labels' | 'lease'>,
  ): Promise<CommitResult>;
  exists(digest: Digest): boolean;
}

interface Ingest {
  readonly ref: string;
  readonly path: string;
  readonly startedAt: Date;
  updatedAt: Date;
  /** Bytes taken, of which the last may still be on their way to the file while there is a writer. */
  offset: number;
  total: number;
  expected: Digest | undefined;
  /** Covers the first `offset` bytes, or those that the writer has seen off. */
  hash: Sha256;
  busy: boolean;
  broken: boolean;
}

/**
 * Unfinished blobs. They live as long as the process: the temporary directory is swept at start, and whoever
 * downloads after a restart starts again.
 */
export class Ingests {
  readonly #byRef = new Map<string, Ingest>();
  readonly #newPath: (hint: string) => string;
  readonly #host: IngestHost;

  constructor(newPath: (hint: string) => string, host: IngestHost) {
    this.#newPath = newPath;
    this.#host = host;
  }

  async open(options: WriterOptions): Promise<BlobWriter> {
    const now = new Date();
    let ingest = this.#byRef.get(options.ref);
    if (ingest?.busy)
      throw new BuildError(`ref ${options.ref} locked: unavailable`, { code: Code.unavailable });
    if (!ingest) {
      ingest = {
        ref: options.ref,
        path: this.#newPath('ingest'),
        startedAt: now,
        updatedAt: now,
        offset: 0,
        total: 0,
        expected: undefined,
        hash: new Sha256(),
        busy: true,
        broken: false,
      };
      this.#byRef.set(options.ref, ingest);
    }
    ingest.busy = true;
    ingest.total = options.total ?? ingest.total;
    ingest.expected = options.expected ?? ingest.expected;
    try {
      const file = await open(ingest.path, ingest.offset > 0 ? 'r+' : 'w+', 0o600);
      const host = {
        closed: () => this.#closed(ingest),
        publish: (commit: CommitOptions) => this.#publish(ingest, commit),
      };
      return new IngestWriter(ingest, file, host, options.ownsChunks ?? false);
    } catch (error) {
      this.#byRef.delete(options.ref);
      throw error;
    }
  }

  list(): IngestStatus[] {
    return [...this.#byRef.values()].map(({ ref, offset, total, expected, startedAt, updatedAt }) => ({
      ref,
      offset,
      total,
      expected,
      startedAt,
      updatedAt,
    }));
  }

  async abort(ref: string): Promise<void> {
    const ingest = this.#byRef.get(ref);
    if (!ingest) throw notFound(`ingest ref ${ref}: not found`);
    if (ingest.busy) throw new BuildError(`ref ${ref} locked: unavailable`, { code: Code.unavailable });
    await this.#forget(ingest);
  }

  async close(): Promise<void> {
    for (const ingest of [...this.#byRef.values()]) await this.#forget(ingest);
  }

  async #forget(ingest: Ingest): Promise<void> {
    if (this.#byRef.get(ingest.ref) === ingest) this.#byRef.delete(ingest.ref);
    await rm(ingest.path, { force: true });
  }

  async #closed(ingest: Ingest): Promise<void> {
    ingest.busy = false;
    if (ingest.offset === 0 || ingest.broken) return await this.#forget(ingest);
    const idle = [...this.#byRef.values()].filter((one) => !one.busy);
    if (idle.length <= MAX_IDLE_INGESTS) return;
    const oldest = idle.reduce((a, b) => (a.updatedAt <= b.updatedAt ? a : b));
    await this.#forget(oldest);
  }

  async #publish(ingest: Ingest, commit: CommitOptions): Promise<CommitResult> {
    try {
      const digest = `sha256:${ingest.hash.digest()}` as Digest;
      const size = commit.size ?? (ingest.total > 0 ? ingest.total : undefined);
      if (size !== undefined && size !== ingest.offset)
        throw mismatch(`${ingest.ref}: unexpected commit size ${ingest.offset}, expected ${size}`);
      const expected = commit.digest ?? ingest.expected;
      if (expected !== undefined && expected !== digest)
        throw mismatch(`${ingest.ref}: unexpected commit digest ${digest}, expected ${expected}`);
      return await this.#host.publish(ingest.path, { ...commit, digest, size: ingest.offset });
    } finally {
      // Also after a mismatch: bytes that are wrong must not be resumed.
      await this.#forget(ingest);
    }
  }
}

async function hashAll(hash: Sha256, chunks: readonly Uint8Array[]): Promise<void> {
  for (const chunk of chunks) await hash.updateAside(chunk);
}

function mismatch(message: string): BuildError {
  return new BuildError(message, { code: Code.failedPrecondition });
}

interface WriterHost {
  closed(): Promise<void>;
  publish(options: CommitOptions): Promise<CommitResult>;
}

class IngestWriter implements BlobWriter {
  readonly #ingest: Ingest;
  readonly #host: WriterHost;
  readonly #ownsChunks: boolean;
  #file: FileHandle | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writing: Promise<void> | undefined;
  /** Bytes in the file. */
  #written: number;
  #failure: { readonly error: unknown } | undefined;

  constructor(ingest: Ingest, file: FileHandle, host: WriterHost, ownsChunks: boolean) {
    this.#ownsChunks = ownsChunks;
    this.#ingest = ingest;
    this.#file = file;
    this.#host = host;
    this.#written = ingest.offset;
  }

  get ref(): string {
    return this.#ingest.ref;
  }

  get offset(): number {
    return this.#ingest.offset;
  }

  async write(chunk: Uint8Array): Promise<void> {
    const file = this.#open();
    const ingest = this.#ingest;
    if (ingest.total > 0 && ingest.offset + chunk.length > ingest.total)
      throw mismatch(`${ingest.ref}: more than the expected ${ingest.total} bytes`);
    if (this.#failure) throw this.#failure.error;
    ingest.offset += chunk.length;
    ingest.updatedAt = new Date();
    this.#queue.push(chunk);
    this.#queuedBytes += chunk.length;
    this.#writing ??= this.#drain(file);
    if (this.#queuedBytes >= MAX_QUEUED_BYTES) await this.#settled();
  }

  /** What came while the disk was busy goes there in one call. Ends with an empty queue. */
  async #drain(file: FileHandle): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        const chunks = this.#queue.splice(0);
        const hashed = hashAll(this.#ingest.hash, chunks);
        hashed.catch(() => {}); // is waited for below
        try {
          await this.#writeAll(file, chunks);
        } finally {
          await hashed;
        }
        if (this.#ownsChunks) for (const chunk of chunks) giveBackChunk(chunk);
      }
    } catch (error) {
      // Usually a full disk: what was written must not stay to fill it.
      this.#ingest.broken = true;
      this.#failure = { error };
      this.#queue = [];
    } finally {
      this.#writing = undefined;
    }
  }

  async #writeAll(file: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
    for (let left = chunks; left.length > 0; ) {
      const bytes = left.reduce((sum, chunk) => sum + chunk.length, 0);
      const { bytesWritten } = await file.writev(left, this.#written);
      this.#written += bytesWritten;
      this.#queuedBytes -= bytesWritten;
      left = bytesWritten < bytes ? [Buffer.concat(left).subarray(bytesWritten)] : [];
    }
  }

  /** @throws what kept bytes from being written */
  async #settled(): Promise<void> {
    await this.#writing;
    if (this.#failure) throw this.#failure.error;
  }

  async truncate(size: number): Promise<void> {
    const file = this.#open();
    const ingest = this.#ingest;
    await this.#settled();
    if (size > ingest.offset)
      throw mismatch(`${ingest.ref}: cannot truncate ${ingest.offset} bytes to ${size}`);
    const hash = new Sha256();
    const buffer = Buffer.allocUnsafe(Math.min(HASH_CHUNK_BYTES, Math.max(size, 1)));
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, size - at), at);
      if (bytesRead === 0)
        throw new BuildError(`${ingest.ref}: unexpected end of file`, { code: Code.dataLoss });
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    await file.truncate(size);
    ingest.hash = hash;
    ingest.offset = size;
    this.#written = size;
  }

  async commit(options: CommitOptions = {}): Promise<CommitResult> {
    const file = this.#open();
    this.#file = undefined;
    try {
      await this.#settled();
    } catch (error) {
      await file.close();
      await this.#host.closed();
      throw error;
    }
    await file.close();
    return await this.#host.publish(options);
  }

  #open(): FileHandle {
    if (!this.#file)
      throw new BuildError(`writer of ${this.#ingest.ref} is closed`, { code: Code.failedPrecondition });
    return this.#file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const file = this.#file;
    if (!file) return;
    this.#file = undefined;
    await this.#writing;
    await file.close();
    await this.#host.closed();
  }
}
