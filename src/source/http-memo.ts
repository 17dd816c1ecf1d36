import type { Digest } from '../base/digest.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { ResolveMemo } from './memo.ts';

/** What is known of a file without looking into it. */
export interface HttpMetadata {
  readonly digest: Digest;
  readonly filename: string;
  readonly lastModified?: Date;
}

export interface HttpFound extends HttpMetadata {
  /** Record that holds the file. */
  readonly recordId: string;
}

/**
 * What one build has downloaded (FEATURES E29): a URL is asked once, and its file stays as long as the build,
 * whatever the server says later or is pruned meanwhile.
 */
export class HttpMemo extends ResolveMemo<HttpFound> implements AsyncDisposable {
  readonly #refs: ImmutableRef[] = [];
  #disposed = false;

  /** Takes over a ref until the end of the build. */
  async keep(ref: ImmutableRef): Promise<void> {
    if (this.#disposed) await ref.release();
    else this.#refs.push(ref);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    for (const ref of this.#refs.splice(0)) await ref.release();
  }
}
