import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { Client } from './client.ts';
import type { SolveRequest } from './solve-types.ts';
import type { BuildExplanation, StepExplanation } from './types.ts';

/** How long the daemon may take to find out why steps ran, once the build has ended. */
const EXPLAIN_LIMIT_MS = 10_000;

type Asked = Pick<SolveRequest, 'onExplain' | 'onStepExplained' | 'onWarning' | 'signal'>;

/** Asks why the steps of a build run, where somebody wants to know. What is not known of it is no failure of it. */
export class Why {
  readonly #client: Client;
  readonly #ref: string;
  readonly #request: Asked;
  readonly #follow = new AbortController();
  readonly #following: Promise<BuildExplanation> | undefined;
  readonly #told = new Set<string>();

  /** Steps are told of from now on. */
  constructor(client: Client, ref: string, request: Asked) {
    this.#client = client;
    this.#ref = ref;
    this.#request = request;
    const { signal } = this.#follow;
    if (request.onStepExplained)
      this.#following = client.explain(ref, { signal, onStep: (step) => this.#step(step) });
    this.#following?.catch(() => {}); // told at the end
  }

  /** Tells it all, once the build has ended. One that failed may never have begun: nothing is waited for then. */
  async tell(succeeded: boolean): Promise<void> {
    const { onExplain, onWarning, signal } = this.#request;
    const following = succeeded ? this.#following : undefined;
    if (!succeeded) this.#follow.abort();
    if (!onExplain && !this.#following) return;
    const limit = new AbortController();
    const end = (): void => {
      limit.abort();
      this.#follow.abort();
    };
    signal?.addEventListener('abort', end, { once: true });
    const timer = setTimeout(end, EXPLAIN_LIMIT_MS);
    try {
      if (signal?.aborted) return end();
      const all = await (following ?? this.#client.explain(this.#ref, { signal: limit.signal }));
      for (const step of all.steps) this.#step(step); // those that nobody was told of in time
      onExplain?.(all);
    } catch (error) {
      const other = hasCode(error, Code.unimplemented);
      onWarning?.(other ? 'this daemon does not say why steps ran' : BuildError.from(error).message);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
    }
  }

  #step(step: StepExplanation): void {
    if (this.#told.has(step.vertex)) return;
    this.#told.add(step.vertex);
    this.#request.onStepExplained?.(step);
  }
}
