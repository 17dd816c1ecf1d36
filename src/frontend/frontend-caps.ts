import { BuildError, Code } from '../base/errors.ts';

/** @returns the error for a capability of a frontend that is asked for and not there (FEATURES I4) */
export function unsupportedCap(name: string): BuildError {
  return new BuildError(`unsupported frontend capability ${name}`, {
    code: Code.unimplemented,
    details: [{ type: 'errdefs.FrontendCap', value: { name } }],
  });
}

/** Names of a comma-separated list of capabilities; what stands behind a `+` is left out. */
export function capNames(list: string): string[] {
  return list
    .split(',')
    .map((cap) => cap.split('+', 1)[0] ?? '')
    .filter((name) => name !== '');
}
