import { BuildError, Code, isCanceled } from '../base/errors.ts';
import { statusText } from '../rpc/status.ts';

/** `what: Code: text`, as upstream's client words the daemon's errors. */
export function prefixed(error: unknown, what: string): BuildError {
  const own = BuildError.from(error);
  const message = `${what}: ${statusText(own)}`;
  const code = isCanceled(error) ? Code.canceled : own.code;
  return new BuildError(message, {
    code,
    cause: own,
    details: own.details,
    ...(own.hint === undefined ? {} : { hint: own.hint }),
  });
}
