import { BuildError } from '../../base/errors.ts';
import { locationsOf } from '../errors.ts';
import type { Location } from '../location.ts';

/** What is wrong with a Dockerfile or with the options of a build. */
export class DockerfileError extends Error {
  /** Lines at fault, innermost first; none when it is not one instruction's fault. */
  readonly locations: readonly Location[];
  /** What to do about it, one sentence, if there is something to say. */
  readonly hint: string | undefined;

  constructor(
    message: string,
    options: {
      readonly locations?: readonly Location[];
      readonly hint?: string | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'DockerfileError';
    this.locations = options.locations ?? [];
    this.hint = options.hint;
  }
}

/** A failure as users of the library see it. Aborts stay what they are. */
export function publicError(error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (!(error instanceof BuildError)) return error;
  return new DockerfileError(error.message, {
    locations: locationsOf(error),
    hint: error.hint,
    cause: error.cause,
  });
}
