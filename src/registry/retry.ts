import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../base/errors.ts';
import { isTransient } from './errors.ts';
import type { RegistryContext } from './session.ts';

const WAITS_MS = [1000, 2000, 4000];

/** Runs `work` up to four times while it fails in ways that may pass (FEATURES F22). */
export async function withRetries<T>(
  context: Pick<RegistryContext, 'signal' | 'log'>,
  work: () => Promise<T>,
): Promise<T> {
  const backoff = new Backoff(context);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      await backoff.pause(error);
    }
  }
}

/** The waits between the tries of one transfer. */
export class Backoff {
  readonly #context: Pick<RegistryContext, 'signal' | 'log'>;
  #step = 0;

  constructor(context: Pick<RegistryContext, 'signal' | 'log'>) {
    this.#context = context;
  }

  /** Waits before the next try, or throws `error` when another try is not worth it. */
  async pause(error: unknown): Promise<void> {
    const { signal, log } = this.#context;
    signal.throwIfAborted();
    if (!isTransient(error)) throw error;
    log?.(`error: ${BuildError.from(error).message}\n`);
    const wait = WAITS_MS[this.#step++];
    if (wait === undefined) throw error;
    log?.(`retrying in ${wait / 1000}s\n`);
    await sleep(wait, undefined, { signal });
  }

  /** Bytes arrived: the next failure starts from the first wait. */
  reset(): void {
    this.#step = 0;
  }
}
