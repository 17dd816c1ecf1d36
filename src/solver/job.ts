import type { Digest } from '../base/digest.ts';
import { BuildError, isCanceled } from '../base/errors.ts';
import type { EdgeResult } from './edge.ts';
import { JobProgress, VertexReporter } from './progress.ts';
import type { VertexOwner } from './shared-vertex.ts';
import type { EdgeRef, ProgressGroup, Result, SolveStatus, VertexProgress } from './types.ts';

export interface JobHooks<Spec, R extends Result> {
  readonly solve: (edge: EdgeRef<Spec>, owner: VertexOwner, signal: AbortSignal) => Promise<EdgeResult<R>>;
  readonly discard: (owner: VertexOwner) => Promise<void>;
  readonly ended: () => void;
}

/**
 * One request's scope: its sessions, its progress, and the shared state of every vertex it solved. Disposing
 * it stops what only it wanted and lets go of the rest.
 */
export class Job<Spec, R extends Result> implements AsyncDisposable {
  readonly id: string;
  readonly sessions: readonly string[];
  readonly #progress = new JobProgress();
  readonly #owner: VertexOwner;
  readonly #hooks: JobHooks<Spec, R>;
  readonly #abort = new AbortController();
  #running = 0;
  #idle: (() => void) | undefined;
  #disposed = false;

  constructor(id: string, sessions: readonly string[], hooks: JobHooks<Spec, R>) {
    this.id = id;
    this.sessions = sessions;
    this.#hooks = hooks;
    this.#owner = { progress: this.#progress, sessions };
  }

  /** Solves one edge; the caller owns the value. Aborting leaves the work to whoever else wants it. */
  async solve(edge: EdgeRef<Spec>, signal?: AbortSignal): Promise<EdgeResult<R>> {
    const both = signal ? AbortSignal.any([signal, this.#abort.signal]) : this.#abort.signal;
    this.#running++;
    try {
      return await this.#hooks.solve(edge, this.#owner, both);
    } finally {
      this.#running--;
      if (this.#running === 0) this.#idle?.();
    }
  }

  /** Shows `work` as a vertex of its own (exports, image look-ups). */
  async step<T>(
    digest: Digest,
    name: string,
    work: (progress: VertexProgress) => Promise<T>,
    options: { readonly progressGroup?: ProgressGroup } = {},
  ): Promise<T> {
    const reporter = new VertexReporter(digest, name, [], options.progressGroup);
    reporter.join(this.#progress);
    reporter.start();
    try {
      const result = await work(reporter);
      reporter.complete();
      return result;
    } catch (error) {
      reporter.complete(isCanceled(error) ? 'context canceled' : BuildError.from(error).message);
      throw error;
    }
  }

  /** Where warnings that belong to no running vertex go. */
  get progress(): JobProgress {
    return this.#progress;
  }

  /** Everything that happened, then what happens, until the job ends. */
  status(signal: AbortSignal): AsyncIterable<SolveStatus> {
    return this.#progress.read(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#abort.abort(new BuildError('context canceled', { code: 1 }));
    // Solves leave their vertices before these are let go of.
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#hooks.discard(this.#owner);
    this.#progress.close();
    this.#hooks.ended();
  }
}
