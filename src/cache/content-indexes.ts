import { mkdirSync, rmSync, statSync } from 'node:fs';
import { opendir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../base/digest.ts';
import type { JobRunner } from '../pool/types.ts';
import {
  contentHash,
  type ContentHashInput,
  type ContentHashJobs,
  TooMuchToRead,
  updateContentIndex,
} from './contenthash.ts';
import { areFew } from './content-selector.ts';
import type { TreeChange } from './contenthash-index.ts';
import type { ImmutableRef } from './ref.ts';

/** Metadata key: the record whose index describes this record's tree (a local source keeps one for all its commits). */
export const contentIndexKey = 'content-index';
const SUFFIX = '.index';
/** Changes, and bytes of an index, that are dealt with at once: a millisecond, where a thread takes longer to start. */
const MAX_OWN_CHANGES = 100;
const MAX_OWN_BYTES = 64 << 10;
const MAX_OWN_READ_BYTES = 256 << 10;

/** Files with the known digests of records' trees (FEATURES F19), one per record. */
export class ContentIndexes {
  readonly dir: string;
  readonly #jobs: JobRunner<ContentHashJobs>;

  constructor(dir: string, jobs: JobRunner<ContentHashJobs>) {
    this.dir = dir;
    this.#jobs = jobs;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** Where the digests of a ref's tree are kept. */
  of(ref: ImmutableRef): string {
    return this.#file(ref.record.get(contentIndexKey) ?? ref.id);
  }

  /** Digests of what selectors take of a ref's tree, which is mounted at `dir`. @throws BuildError `"/x": not found` */
  async hash(
    ref: ImmutableRef,
    { dir, selectors }: Pick<ContentHashInput, 'dir' | 'selectors'>,
    signal: AbortSignal,
  ): Promise<readonly Digest[]> {
    const input = { dir, selectors, index: this.of(ref) };
    if (areFew(selectors) && this.isSmall(ref)) {
      try {
        return contentHash({ ...input, maxReadBytes: MAX_OWN_READ_BYTES }, signal);
      } catch (error) {
        if (!(error instanceof TooMuchToRead)) throw error; // else the index was lost
      }
    }
    return await this.#jobs.run('contentHash', input, { signal });
  }

  /** True for a transferred tree of few files: its digests are all known, and looking them up takes no thread. */
  isSmall(ref: ImmutableRef): boolean {
    if (ref.record.get(contentIndexKey) === undefined) return false;
    const size = statSync(this.of(ref), { throwIfNoEntry: false })?.size ?? 0;
    return size > 0 && size <= MAX_OWN_BYTES;
  }

  /** After a transfer into a record's tree: only what changed is read again. */
  async update(recordId: string, changes: readonly TreeChange[], signal: AbortSignal): Promise<void> {
    const index = this.#file(recordId);
    const size = statSync(index, { throwIfNoEntry: false })?.size ?? 0;
    if (changes.length <= MAX_OWN_CHANGES && size <= MAX_OWN_BYTES) updateContentIndex({ index, changes });
    else await this.#jobs.run('updateContentIndex', { index, changes }, { signal });
  }

  /** Forgets what is known of a tree that is in an unknown state. */
  drop(recordId: string): void {
    rmSync(this.#file(recordId), { recursive: true, force: true });
  }

  /** Removes the files of records that are gone, where a crash left them. */
  async sweep(exists: (recordId: string) => boolean, signal: AbortSignal): Promise<void> {
    for await (const { name } of await opendir(this.dir)) {
      signal.throwIfAborted();
      if (!name.endsWith(SUFFIX) || !exists(name.split('.')[0] ?? ''))
        await rm(join(this.dir, name), { recursive: true, force: true });
    }
  }

  #file(recordId: string): string {
    return join(this.dir, `${recordId}${SUFFIX}`);
  }
}
