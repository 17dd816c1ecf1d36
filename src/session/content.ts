import type { Digest } from '../base/digest.ts';

/** What is known of a blob in a store over a session. `size` in bytes. */
export interface RemoteBlobInfo {
  readonly digest: Digest;
  readonly size: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly labels: Readonly<Record<string, string>>;
}

export interface RemoteIngest {
  readonly ref: string;
  readonly offset: number;
  /** 0 when unknown. */
  readonly total: number;
  readonly startedAt: Date;
  readonly updatedAt: Date;
}

/** One open ingest. Disposing without commit keeps what was written for a later writer of the ref. */
export interface RemoteBlobWriter extends AsyncDisposable {
  readonly offset: number;
  write(chunk: Uint8Array): Promise<void>;
  truncate(size: number): Promise<void>;
  /** @throws BuildError failedPrecondition for a wrong size or digest; alreadyExists */
  commit(options: {
    readonly size?: number;
    readonly digest?: Digest;
    readonly labels?: Readonly<Record<string, string>>;
  }): Promise<Digest>;
}

/**
 * A content store that a client lends (FEATURES C22): the host serves one of these, and the daemon's caller
 * is one. A missing blob is notFound.
 */
export interface RemoteContent {
  info(digest: Digest, signal?: AbortSignal): Promise<RemoteBlobInfo>;
  read(
    digest: Digest,
    options?: { readonly offset?: number; readonly length?: number; readonly signal?: AbortSignal },
  ): AsyncIterable<Uint8Array>;
  writer(options: {
    readonly ref: string;
    readonly total?: number;
    readonly expected?: Digest;
    readonly signal?: AbortSignal;
  }): Promise<RemoteBlobWriter>;
  list(signal?: AbortSignal): AsyncIterable<RemoteBlobInfo>;
  ingests(signal?: AbortSignal): Promise<readonly RemoteIngest[]>;
  abortIngest(ref: string, signal?: AbortSignal): Promise<void>;
  delete(digest: Digest, signal?: AbortSignal): Promise<void>;
  /** '' removes a label. */
  updateLabels(
    digest: Digest,
    labels: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ): Promise<RemoteBlobInfo>;
}
