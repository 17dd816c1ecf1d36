/**
 * Write a frontend: a program that turns options and files into a build. Run it in your own process with
 * `client.build(frontend)` of buildkit-ts/client, or as the program of an image that `# syntax=` names:
 *
 *     import { runFrontend } from 'buildkit-ts/frontend';
 *
 *     await runFrontend(async (gateway) => {
 *       const { ref } = await gateway.solve({ definition: … });
 *       return { ref, metadata: { 'containerimage.config': JSON.stringify(config) } };
 *     });
 *
 * What is exported here keeps its meaning within a major version. docs/sdk.md tells more.
 */
import type { Frontend } from './types.ts';

/**
 * Runs a frontend for the daemon that has started this program in a container. Its result, or what it throws, is that
 * of the build; the process has exit code 1 then. The standard output belongs to the daemon: `console` writes to the
 * standard error.
 * @throws BuildError when no daemon has started this program
 */
export async function runFrontend(frontend: Frontend): Promise<void> {
  const { runFromEnvironment } = await import('./environment.ts');
  await runFromEnvironment(frontend);
}

export type { BuildErrorOptions, ErrorDetail, ErrorSource } from '../base/errors.ts';
export { BuildError, Code } from '../base/errors.ts';
export type { Platform } from '../oci/platform-type.ts';
export type { SourceRange } from '../solver/status-types.ts';
export type * from './container-types.ts';
export type * from './process-types.ts';
export type * from './types.ts';
export type * from './worker-types.ts';
