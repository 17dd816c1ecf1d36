// What tests of the SDK share.
import assert from 'node:assert/strict';
import { BuildError } from '../../src/client/index.ts';

/** Options of a build of `dockerfile` with `files` as its context. */
export function dockerfile(text: string, files: Readonly<Record<string, string>> = {}) {
  return {
    frontend: 'dockerfile.v0',
    locals: { context: { files }, dockerfile: { files: { Dockerfile: text } } },
  };
}

/** What a build fails with. */
export async function failure(build: PromiseLike<unknown>): Promise<BuildError> {
  const error = await build.then(
    () => assert.fail('the build has not failed'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof BuildError, String(error));
  return error;
}
