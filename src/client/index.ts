/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Build with a BuildKit daemon: this project's, upstream's, or a private one for as long as the program runs.
 *
 *     import { connect } from 'buildkit-ts/client';
 *
 *     await using client = await connect();
 *     const { digest } = await client.solve({
 *       frontend: 'dockerfile.v0',
 *       locals: { context: '.', dockerfile: '.' },
 *       secrets: { token: { env: 'TOKEN' } },
 *       exports: [{ type: 'image', name: 'registry.example/app:latest', push: true }],
 *     });
 *
 * What is exported here keeps its meaning within a major version. docs/sdk.md tells more.
 */
import type { Client, ConnectOptions } from './api/types.ts';

/**
 * Connects to a daemon: to that of `address`, else of the environment's BUILDKIT_HOST, else to the one at
 * /run/buildkit/buildkitd.sock; if none answers there, one of this package is started, which ends with the client.
 * Close the client, or declare it with `await using`, to let the process end.
 * @throws BuildError `unavailable` when nobody answers; `canceled` when `signal` aborts
 */
export async function connect(options: ConnectOptions | string = {}): Promise<Client> {
  const { openClient } = await import('./api/client.ts');
  return await openClient(typeof options === 'string' ? { address: options } : options);
}

export { BuildError, Code } from '../base/errors.ts';
export type { BuildErrorOptions, ErrorDetail, ErrorSource } from '../base/errors.ts';
export type * from '../gateway/container-types.ts';
export type * from '../gateway/process-types.ts';
export type * from '../gateway/types.ts';
export type * from '../gateway/worker-types.ts';
export type { Platform } from '../oci/platform-type.ts';
export type { MemoryFile } from '../session/fsutil/memory-file.ts';
export type * from './api/types.ts';
export { upload } from './api/upload.ts';
export type * from './history-types.ts';
export type * from './source-policy-types.ts';
export type * from './source-question-types.ts';
export type {
  BuildExplanation,
  ByteStream,
  CallOptions,
  Cause,
  CauseKind,
  FileChange,
  NodeWritable,
  ProgressGroup,
  PruneRequest,
  SolveStatus,
  SourceInfo,
  SourceRange,
  StepExplanation,
  TlsFiles,
  UsageInfo,
  VertexLog,
  VertexState,
  VertexStatusState,
  VertexWarning,
} from './types.ts';
