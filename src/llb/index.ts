/**
 * Build graphs (LLB) in TypeScript: states, and what becomes of them. Nothing is built here: a definition goes to a
 * daemon, by `buildctl build` or by `buildkit-ts/client`.
 *
 *     import { bind, image, local, scratch, shell } from 'buildkit-ts/llb';
 *
 *     const tools = image('golang:1.26-alpine').run('apk add --no-cache git');
 *     const built = tools.dir('/src').run(shell('go build -o /out/ ./cmd/...'), {
 *       mounts: { '/src': bind(local('context'), { readonly: true }), '/out': bind(scratch()) },
 *     });
 *     process.stdout.write((await built.output('/out').marshal({ platform: 'linux/arm64' })).toBytes());
 *
 * What is exported here keeps its meaning within a major version. docs/sdk-llb.md tells more.
 */
export { diff, fromDefinition, merge, type PassthroughInput, passthrough } from './api/combine.ts';
export { type Definition, readDefinition } from './api/definition.ts';
export {
  type CopyOptions,
  chain,
  copy,
  type FileAction,
  type FileChain,
  type MakeOptions,
  type MkdirOptions,
  type MkfileOptions,
  mkdir,
  mkfile,
  type Owner,
  type RmOptions,
  rm,
  symlink,
} from './api/file.ts';
export {
  type BindOptions,
  bind,
  type CacheOptions,
  cache,
  type Mount,
  type Mounts,
  type OutputsOf,
  tmpfs,
} from './api/mounts.ts';
export type { Platform, PlatformSpec, Resources, StepMetadata, StepOptions } from './api/options.ts';
export {
  type Command,
  type Device,
  type Proxy,
  type RunOptions,
  type Secret,
  type SshSocket,
  shell,
} from './api/run.ts';
export type {
  ExtraHost,
  ImageConfig,
  Network,
  RunSettings,
  Security,
  Settings,
  Ulimit,
  UlimitName,
} from './api/settings.ts';
export {
  type FileInfo,
  type GitCommit,
  type GitOptions,
  type GitResult,
  git,
  type HttpOptions,
  http,
  type ImageOptions,
  type ImageResolver,
  image,
  imageBlob,
  type LocalOptions,
  local,
  type OciLayoutOptions,
  type OciStore,
  ociLayout,
  ociLayoutBlob,
  type ResolvedImage,
  type ResolveImageOptions,
  scratch,
} from './api/source.ts';
export {
  type SourceLocation,
  type SourceMap,
  type SourceMapOptions,
  type SourceRange,
  sourceMap,
} from './api/source-map.ts';
export {
  type AsyncContext,
  defer,
  type MarshalOptions,
  type Run,
  type RunOutputs,
  type State,
} from './api/state.ts';
