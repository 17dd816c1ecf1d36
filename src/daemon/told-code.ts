import { BuildError, Code } from '../base/errors.ts';

/** Codes that say the same to everybody, whoever made them. */
const PLAIN: ReadonlySet<Code> = new Set([
  Code.canceled,
  Code.deadlineExceeded,
  Code.resourceExhausted,
  Code.unimplemented,
  Code.internal,
]);

/**
 * The error as clients of Control and LLBBridge are told of it: a code that only means something to us, such
 * as `notFound` of a file in a build, is `unknown` to them (FEATURES B3), or they would print it.
 */
export function toldCode(error: BuildError): BuildError {
  if (error.told || error.code === Code.unknown || PLAIN.has(error.code)) return error;
  const { details, hint } = error;
  return new BuildError(error.message, { cause: error, details, ...(hint === undefined ? {} : { hint }) });
}
