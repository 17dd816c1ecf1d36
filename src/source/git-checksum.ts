import { BuildError } from '../base/errors.ts';

/** A commit or tag that is another one than was asked for. */
export function wrongChecksum(expected: string, found: readonly string[]): BuildError {
  return new BuildError(`expected checksum to match ${expected}, got ${found.join(' or ')}`);
}
