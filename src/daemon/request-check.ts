import { BuildError, Code } from '../base/errors.ts';
import type * as pb from '../pb/control.ts';

const COMPATIBILITY_VERSION = 30;

/** Refuses by name what this daemon does not do yet, before any work. */
export function refuseUnsupported(request: pb.SolveRequest): void {
  if (request.SourcePolicy && request.SourcePolicy.rules.length > 0) throw later('a source policy');
  if (request.ProxyNetwork) throw later('the proxy network');
  const version = Number(request.CompatibilityVersion);
  if (version !== 0 && version !== COMPATIBILITY_VERSION) {
    const what = `unsupported compatibility-version ${version}`;
    throw new BuildError(
      version > COMPATIBILITY_VERSION
        ? `${what}: upgrade buildkit (max supported: ${COMPATIBILITY_VERSION})`
        : `${what} (supported: [${COMPATIBILITY_VERSION}])`,
    );
  }
  for (const [key, value] of Object.entries(request.FrontendAttrs)) {
    if (key.startsWith('attest:') && value !== 'disabled=true') throw later(`${key} (attestations)`);
  }
}

function later(what: string, hint?: string): BuildError {
  const options = { code: Code.unimplemented, ...(hint === undefined ? {} : { hint }) };
  return new BuildError(`${what} is not supported yet`, options);
}
