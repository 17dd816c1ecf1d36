import { BuildError } from '../base/errors.ts';
import { jsonProblem } from '../frontend/json-problem.ts';
import type { FrontendResult, LazyRef } from '../frontend/result.ts';

/**
 * What a frontend of the time before `return` (BuildKit before 0.4) means by its last solve: the result of the build is
 * that tree, with more metadata (FEATURES I8).
 * @param attrs JSON: base64 by name, as Go writes a map of bytes
 * @throws BuildError for what is no such map
 */
export function finalResult(result: FrontendResult<LazyRef>, attrs: Uint8Array): FrontendResult<LazyRef> {
  return { ref: result.ref, metadata: new Map([...attributes(attrs), ...result.metadata]) };
}

function attributes(bytes: Uint8Array): [string, Uint8Array][] {
  const json = Buffer.from(bytes).toString();
  const problem = jsonProblem(json);
  if (problem !== undefined) throw new BuildError(problem);
  const map: unknown = JSON.parse(json) ?? {};
  if (typeof map !== 'object' || Array.isArray(map)) throw refused(map);
  return Object.entries(map as object).map(([key, value]: [string, unknown]) => {
    if (value !== null && typeof value !== 'string') throw refused(value);
    return [key, Buffer.from(value ?? '', 'base64')];
  });
}

function refused(value: unknown): BuildError {
  return new BuildError(`exporter attributes are no map of bytes: ${JSON.stringify(value)}`);
}
