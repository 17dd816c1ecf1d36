import { abortError, BuildError } from '../../base/errors.ts';
import type { Frontend } from '../../gateway/types.ts';
import { newSessionId } from '../../session/host/host.ts';
import type { Client as Connection } from '../client.ts';
import type { BuildExplanation } from '../types.ts';
import { ProgressQueue } from './progress-queue.ts';
import { solveRequest } from './request.ts';
import type { Build, SolveOptions, SolveResult } from './types.ts';

/** What a build needs of its client. */
export interface BuildHost {
  readonly connection: Connection;
  /** Aborts when the client is closed. */
  readonly closed: AbortSignal;
  /** Adds what is known of a private daemon's end. */
  readonly explain: (error: unknown) => unknown;
}

/** Starts a build. Errors of the options come like those of the build. */
export function startBuild(
  host: BuildHost,
  options: SolveOptions & { readonly run?: Frontend },
): RunningBuild {
  return new RunningBuild(host, options);
}

class RunningBuild implements Build {
  readonly ref: string;
  readonly #progress = new ProgressQueue();
  readonly #cancel = new AbortController();
  readonly #result: Promise<SolveResult>;

  constructor(host: BuildHost, options: SolveOptions & { readonly run?: Frontend }) {
    this.ref = options.ref ?? newSessionId();
    this.#result = this.#run(host, options).finally(() => this.#progress.end());
    this.#result.catch(() => {}); // told to whoever waits for it
  }

  get progress(): ProgressQueue {
    return this.#progress;
  }

  async #run(
    { connection, closed, explain }: BuildHost,
    options: SolveOptions & { readonly run?: Frontend },
  ): Promise<SolveResult> {
    const signals = [this.#cancel.signal, closed, ...(options.signal ? [options.signal] : [])];
    const signal = AbortSignal.any(signals);
    let explanation: BuildExplanation | undefined;
    let thrown: unknown;
    const { run } = options;
    const watched: Frontend | undefined =
      run &&
      (async (gateway) => {
        try {
          return await run(gateway);
        } catch (error) {
          thrown = error;
          throw error;
        }
      });
    try {
      signal.throwIfAborted();
      const request = solveRequest({ ...options, ...(watched && { run: watched }) });
      const { ref, exporterResponse, metadata } = await connection.solve({
        ...request,
        ref: this.ref,
        onStatus: (status) => this.#progress.push(status),
        ...(options.explain ? { onExplain: (told: BuildExplanation) => (explanation = told) } : {}),
        ...(options.onStepExplained ? { onStepExplained: options.onStepExplained } : {}),
        signal,
      });
      const digest = exporterResponse['containerimage.digest'];
      return { ref, digest, exporterResponse, metadata, explanation };
    } catch (error) {
      if (signal.aborted) throw abortError(signal);
      throw withCause(explain(error), thrown);
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: a build is waited for
  then<A = SolveResult, B = never>(
    onResult?: ((result: SolveResult) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.then(onResult, onError);
  }

  cancel(reason?: unknown): void {
    this.#cancel.abort(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel();
    await this.#result.catch(() => {}); // told to whoever waits for it
  }
}

/** What a frontend of this process threw comes back from the daemon as text: here it is itself. */
function withCause(error: unknown, thrown: unknown): BuildError {
  const own = BuildError.from(error);
  if (thrown === undefined) return own;
  const { message, code, details, hint } = own;
  return new BuildError(message, { code, details, cause: thrown, ...(hint === undefined ? {} : { hint }) });
}
