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
import type { Frontend, GatewayClient } from '../gateway/types.ts';
import type { DockerUi } from './library/types.ts';

/**
 * Runs a frontend for the daemon that has started this program in a container. Its result, or what it throws, is that
 * of the build; the process has exit code 1 then. The standard output belongs to the daemon: `console` writes to the
 * standard error.
 * @throws BuildError when no daemon has started this program
 */
export async function runFrontend(frontend: Frontend): Promise<void> {
  const { runFromEnvironment } = await import('../gateway/environment.ts');
  await runFromEnvironment(frontend);
}

/**
 * What a frontend needs that is used as a Dockerfile is (by `docker build`, with contexts, build arguments, platforms):
 * the file, the context, named contexts, options, questions, and the result for several platforms.
 *
 *     const frontend = async (gateway) => {
 *       const ui = await dockerUi(gateway);
 *       const file = await ui.readEntrypoint();
 *       const answer = await ui.answer({ targets: () => [{ name: 'all' }] }, file);
 *       if (answer) return answer;
 *       const context = await ui.mainContext();
 *       return ui.build(async ({ platform }) => ({ ref: …, config: … }));
 *     };
 *
 * @throws BuildError for options that make no sense, and for daemons without file operations (before BuildKit 0.5)
 */
export async function dockerUi(gateway: GatewayClient): Promise<DockerUi> {
  const { openDockerUi } = await import('./library/docker-ui.ts');
  return await openDockerUi(gateway);
}

export type { BuildErrorOptions, ErrorDetail, ErrorSource } from '../base/errors.ts';
export { BuildError, Code } from '../base/errors.ts';
export type { Platform } from '../oci/platform-type.ts';
export type { SourceRange } from '../solver/status-types.ts';
export type * from '../gateway/container-types.ts';
export type * from '../gateway/process-types.ts';
export type * from '../gateway/types.ts';
export type * from '../gateway/worker-types.ts';
export type * from './library/types.ts';
