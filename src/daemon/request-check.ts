import { BuildError, Code } from '../base/errors.ts';
import type * as pb from '../pb/control.ts';

export const COMPATIBILITY_VERSION = 30;

/** Refuses by name what this daemon does not do yet, before any work. */
export function refuseUnsupported(request: pb.SolveRequest): void {
  if (request.ProxyNetwork) throw notYet('the proxy network');
  const version = Number(request.CompatibilityVersion);
  if (version !== 0 && version !== COMPATIBILITY_VERSION) {
    const what = `unsupported compatibility-version ${version}`;
    throw new BuildError(
      version > COMPATIBILITY_VERSION
        ? `${what}: upgrade buildkit (max supported: ${COMPATIBILITY_VERSION})`
        : `${what} (supported: [${COMPATIBILITY_VERSION}])`,
    );
  }
}

function notYet(what: string): BuildError {
  return new BuildError(`${what} is not supported yet`, { code: Code.unimplemented });
}
