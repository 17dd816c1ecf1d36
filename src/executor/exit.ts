import { BuildError } from '../base/errors.ts';
import { systemErrorText } from '../sys/errno.ts';
import { ExitError } from './types.ts';

/** Why a process ended with `code`. */
export function exitError(
  code: number,
  {
    failure,
    oom,
    signal,
  }: { readonly failure: unknown; readonly oom: boolean; readonly signal: AbortSignal },
): ExitError {
  const reason = oom
    ? 'cannot allocate memory'
    : failure === undefined || failure === signal.reason
      ? `exit code: ${code}`
      : systemErrorText(failure);
  if (!signal.aborted) return new ExitError(code, reason, failure === undefined ? {} : { cause: failure });
  const cause = BuildError.from(signal.reason);
  return new ExitError(code, `${reason}: ${cause.message}`, { code: cause.code, cause });
}
