import { BuildError, Code } from '../base/errors.ts';
import type * as pb from '../pb/control.ts';

/** Refuses by name what this daemon does not do yet, before any work. */
export function refuseUnsupported(request: pb.SolveRequest): void {
  if (request.ProxyNetwork) throw notYet('the proxy network');
}

function notYet(what: string): BuildError {
  return new BuildError(`${what} is not supported yet`, { code: Code.unimplemented });
}
