import { setTimeout as sleep } from 'node:timers/promises';
import { errno } from '../../base/errors.ts';
import { isTransient } from '../../registry/errors.ts';
import { storeError } from './errors.ts';

/** The first pause between tries; each is twice as long, and a random part of it is left out. */
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 20_000;
/** Adaptive: pause before each request after the first refusal, and the longest. */
const FIRST_SPACING_MS = 50;
const MAX_SPACING_MS = 5_000;

/** Answers that say "too much, later", in the words of S3, STS and Azure. */
const THROTTLED = new Set([
  'SlowDown',
  'RequestLimitExceeded',
  'RequestThrottled',
  'RequestThrottledException',
  'Throttling',
  'ThrottlingException',
  'ThrottledException',
  'TooManyRequestsException',
  'TooManyRequests',
  'BandwidthLimitExceeded',
  'LimitExceededException',
  'PriorRequestNotComplete',
  'ServerBusy',
]);
const PASSING = new Set(['RequestTimeout', 'RequestTimeoutException', 'InternalError', 'OperationTimedOut']);
const PASSING_STATUS = new Set([408, 429]);

/** The store asks for fewer requests. */
export function isThrottled(error: unknown): boolean {
  const answer = storeError(error);
  return answer !== undefined && (THROTTLED.has(answer.reason) || answer.status === 429);
}

/** Worth another try. */
export function mayPass(error: unknown): boolean {
  const answer = storeError(error);
  if (answer)
    return (
      isThrottled(error) ||
      PASSING.has(answer.reason) ||
      PASSING_STATUS.has(answer.status) ||
      answer.status >= 500
    );
  for (let at = error, depth = 0; at instanceof Error && depth < 8; depth++, at = at.cause)
    if (errno(at) === 'ECONNREFUSED') return true;
  return isTransient(error);
}

export interface RetryOptions {
  /** Of one request, the first included. */
  readonly attempts: number;
  /** Requests are spaced out after the store has asked for fewer. */
  readonly adaptive?: boolean;
}

/** Tries requests again while they fail in ways that may pass. One for all requests to a store. */
export class Retrier {
  readonly #options: RetryOptions;
  /** Pause before each request, milliseconds. */
  #spacing = 0;
  #next = 0;

  constructor(options: RetryOptions) {
    this.#options = options;
  }

  /** `again` says whether what `mayPass` would give up is to be tried once more. Aborting ends pauses. */
  async run<T>(
    signal: AbortSignal,
    work: () => Promise<T>,
    again: (error: unknown) => boolean = () => false,
  ): Promise<T> {
    for (let tries = 1; ; tries++) {
      await this.#wait(signal);
      try {
        const result = await work();
        this.#spacing = this.#spacing < 1 ? 0 : this.#spacing * 0.9;
        return result;
      } catch (error) {
        signal.throwIfAborted();
        if (this.#options.adaptive && isThrottled(error))
          this.#spacing = Math.min(Math.max(this.#spacing * 2, FIRST_SPACING_MS), MAX_SPACING_MS);
        if (tries >= this.#options.attempts || !(again(error) || mayPass(error))) throw error;
        await sleep(pauseMs(tries, error), undefined, { signal });
      }
    }
  }

  /** Requests that come at once get places one after the other. */
  async #wait(signal: AbortSignal): Promise<void> {
    if (this.#spacing === 0) return;
    const now = Date.now();
    const at = Math.max(now, Math.min(this.#next, now + MAX_PAUSE_MS));
    this.#next = at + this.#spacing;
    if (at > now) await sleep(at - now, undefined, { signal });
  }
}

function pauseMs(tries: number, error: unknown): number {
  const own = FIRST_PAUSE_MS * 2 ** (tries - 1) * (0.5 + Math.random() / 2);
  return Math.min(Math.max(own, storeError(error)?.retryAfterMs ?? 0), MAX_PAUSE_MS);
}
