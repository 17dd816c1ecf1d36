import type { Digest } from '../base/digest.ts';

/** What is known about a stored blob. `size` in bytes. */
export interface BlobInfo {
  readonly digest: Digest;
  readonly size: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly labels: Readonly<Record<string, string>>;
}

/** State of an unfinished ingest. */
export interface IngestStatus {
  readonly ref: string;
  readonly offset: number;
  /** Expected size in bytes, 0 when unknown. */
  readonly total: number;
  readonly expected: Digest | undefined;
  readonly startedAt: Date;
  readonly updatedAt: Date;
}

export interface WriterOptions {
  /** What is written is nobody else's, with all of its memory: it goes back to `base/chunks`. */
  readonly ownsChunks?: boolean;
  readonly ref: string;
  /** Expected size in bytes; a longer write fails, `commit` checks it. */
  readonly total?: number;
  readonly expected?: Digest;
}

export interface CommitOptions {
  /** Checked against what was written when given. */
  readonly size?: number;
  readonly digest?: Digest;
  readonly labels?: Readonly<Record<string, string>>;
  /** The lease that keeps the blob. Without one the next garbage collection takes it. */
  readonly lease?: string;
  /** Does not wait for the disk: a power cut may take the blob, which is then as good as never written. */
  readonly volatile?: boolean;
}

export interface CommitResult {
  readonly digest: Digest;
  readonly size: number;
  /** The blob was there before; not an error. The lease and labels are added to it all the same. */
  readonly alreadyExists: boolean;
}

/**
 * The one writer of an ingest ref. Disposing without commit closes it and keeps what was written, so that
 * the next writer of the ref resumes at `offset`.
 */
export interface BlobWriter extends AsyncDisposable {
  readonly ref: string;
  /** Bytes written so far; not 0 at open when an earlier writer was interrupted. */
  readonly offset: number;
  /** The chunk must not change any more. An error of the disk may come with a later call. */
  write(chunk: Uint8Array): Promise<void>;
  /** Drops what lies after `size` bytes (0 to start again). */
  truncate(size: number): Promise<void>;
  /** Checks, makes durable and publishes. The writer is closed afterwards, whatever the outcome. */
  commit(options?: CommitOptions): Promise<CommitResult>;
}

export interface ReadOptions {
  readonly offset?: number;
  /** Bytes to read; to the end when absent. */
  readonly length?: number;
  readonly signal?: AbortSignal;
}

/** Content-addressed blobs (FEATURES F10). A missing blob is `notFound`. Blobs leave by garbage collection only. */
export interface ContentStore {
  /** @throws unavailable when the ref has a writer already. */
  writer(options: WriterOptions): Promise<BlobWriter>;
  /** Unfinished ingests. */
  ingests(): readonly IngestStatus[];
  /** Forgets the unfinished ingest `ref`. */
  abortIngest(ref: string): Promise<void>;
  /**
   * Takes over a finished file that was hashed by whoever wrote it (a worker). The file must lie in `tmpDir`;
   * it is moved. `digest` and `size` are trusted (the size is checked).
   */
  commitFile(
    path: string,
    options: { digest: Digest; size: number } & Pick<CommitOptions, 'labels' | 'lease' | 'volatile'>,
  ): Promise<CommitResult>;
  /** Small blobs in one call (configs, manifests). */
  writeBlob(
    data: Uint8Array,
    options?: { digest?: Digest } & Pick<CommitOptions, 'labels' | 'lease' | 'volatile'>,
  ): Promise<CommitResult>;
  info(digest: Digest): BlobInfo | undefined;
  /** Whether it is there, with a file of the right size; `isSound` tells more. */
  has(digest: Digest): boolean;
  /** Sets labels; null removes one. GC edges (`containerd.io/gc.ref.*`) take effect at once. */
  updateLabels(digest: Digest, labels: Readonly<Record<string, string | null>>): BlobInfo;
  /** All blobs, in pages, by digest. Small pauses keep the caller's event loop free. */
  list(): AsyncIterable<BlobInfo>;
  /** Chunks of at most 1 MiB. Abort of `signal` ends the iteration with its reason. */
  read(digest: Digest, options?: ReadOptions): AsyncIterable<Uint8Array>;
  /** Whole blob; refuses (resourceExhausted) more than `maxBytes`, default 64 MiB. */
  readAll(digest: Digest, options?: { maxBytes?: number; signal?: AbortSignal }): Promise<Uint8Array>;
  /**
   * Path of the blob's file, for workers that read it themselves; stays valid while a lease holds the blob.
   * A file that is gone or has the wrong size drops the blob's row: then `notFound`.
   */
  path(digest: Digest): string;
  /** Reads the blob and compares digests; drops it when damaged. False also when it is not there. */
  verify(digest: Digest, options?: { signal?: AbortSignal }): Promise<boolean>;
  /** The same, but what was right once is read again only when its file has changed since. */
  isSound(digest: Digest, options?: { signal?: AbortSignal }): Promise<boolean>;
  /** A fresh path below the store's temporary directory, on the same file system as the blobs. */
  tmpPath(hint: string): string;
}
