import { closeSync } from 'node:fs';
import { BuildError } from '../base/errors.ts';
import type { ConvertOptions, ResolvedImage, ResolveImageOptions } from '../dockerfile/convert/options.ts';
import { ENABLED_CAPS } from '../llb/caps.ts';
import type { Definition, SourceOp } from '../llb/ops.ts';
import type { Platform } from '../oci/platform.ts';
import type { VertexWarning } from '../solver/types.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import type { Bridge, CacheImport, SolveRequest, SourceMeta } from './bridge.ts';
import type { FrontendResult, LazyRef } from './result.ts';
import { readFileIn, withTree } from './tree.ts';

/** A solved tree as the frontend sees it. `value` goes into the result. */
export interface BuildRef<R> {
  readonly value: R;
  /** @throws {BuildError} `open PATH: no such file or directory` */
  readFile(path: string, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array>;
  /** Seconds since 1970 of the newest file in the archive at `path`; undefined for what is no archive. */
  newestIn(path: string): Promise<number | undefined>;
}

/** All that the Dockerfile frontend needs of a running build. */
export interface FrontendBridge<R> {
  readonly options: ReadonlyMap<string, string>;
  readonly sessionId: string;
  /** Platforms of the worker, its own first. */
  readonly workerPlatforms: readonly Platform[];
  /** LLB capabilities that the daemon serves. */
  readonly caps: NonNullable<ConvertOptions['caps']>;
  readonly inputs: Readonly<Record<string, Definition>>;
  /** Aborts when nobody wants the build any more. */
  readonly signal: AbortSignal;
  /** null is the empty tree. Solving starts when the tree is first used, or with `evaluate` at once. */
  solve(
    definition: Definition,
    cacheImports: readonly CacheImport[],
    options?: { readonly evaluate?: boolean },
  ): Promise<BuildRef<R> | null>;
  /** @throws {NoImage} when a policy has put something else in the image's place */
  resolveImage(ref: string, options: ResolveImageOptions): Promise<ResolvedImage>;
  /** An image in a layout of the client; `ref` has a digest. */
  resolveLayout(ref: string, store: LayoutStore, options: ResolveLayoutOptions): Promise<ResolvedImage>;
  /** What any source is, without its content; `logName` is the name of the step. */
  describeSource(source: SourceOp, logName: string): Promise<SourceMeta>;
  warn(warning: VertexWarning): void;
  /** Repositories of frontend images that this frontend stands in for. */
  readonly served: readonly string[];
  /** Lets another frontend build, from the same inputs. */
  runFrontend(name: string, options: Readonly<Record<string, string>>): Promise<FrontendResult<R>>;
}

export interface LayoutStore {
  readonly sessionId: string;
  readonly storeId: string;
}

export type ResolveLayoutOptions = Pick<ResolveImageOptions, 'logName' | 'signal'> & {
  /** Default: the worker's. */
  readonly platform?: Platform;
};

/** What was asked for as an image is to come from elsewhere. */
export class NoImage extends BuildError {
  readonly identifier: string;

  constructor(ref: string, identifier: string) {
    super(`ref mutated by policy to non-image: ${IMAGE_SCHEME}${ref} -> ${identifier}`);
    this.identifier = identifier;
  }
}

const IMAGE_SCHEME = 'docker-image://';
const LAYOUT_SCHEME = 'oci-layout://';

/** The bridge of a build inside the daemon. */
export function daemonBridge(
  bridge: Bridge,
  request: SolveRequest,
  signal: AbortSignal,
  served: readonly string[] = [],
): FrontendBridge<LazyRef> {
  const inputs = { ...bridge.inputs, ...request.frontendInputs };
  return {
    options: new Map(Object.entries(request.frontendOpt)),
    sessionId: bridge.sessionId,
    workerPlatforms: bridge.workerPlatforms,
    caps: new Set(ENABLED_CAPS),
    inputs,
    signal,
    solve: (definition, cacheImports, { evaluate = false } = {}) =>
      solve(bridge, { definition, cacheImports, evaluate }, signal),
    resolveImage: (ref, options) =>
      resolveImage(bridge, ref, { identifier: IMAGE_SCHEME + ref, attrs: {} }, options, signal),
    resolveLayout: (ref, { sessionId, storeId }, options) => {
      const attrs = { 'oci.session': sessionId, 'oci.store': storeId };
      const source = { identifier: LAYOUT_SCHEME + ref, attrs };
      return resolveImage(bridge, ref, source, { ...options, resolveMode: 'default' }, signal);
    },
    describeSource: (source, logName) => {
      const plain = { platform: undefined, resolveMode: '', noConfig: false };
      return bridge.resolveSourceMeta({ ...plain, source, logName, gitObjects: true }, signal);
    },
    warn: (warning) => bridge.warn(warning),
    served,
    runFrontend: (frontend, frontendOpt) =>
      bridge.solve(
        { definition: undefined, frontend, frontendOpt, frontendInputs: inputs, evaluate: false },
        signal,
      ),
  };
}

async function solve(
  bridge: Bridge,
  request: { definition: Definition; cacheImports: readonly CacheImport[]; evaluate: boolean },
  signal: AbortSignal,
): Promise<BuildRef<LazyRef> | null> {
  const { definition, cacheImports, evaluate } = request;
  const plain = { frontend: '', frontendOpt: {}, frontendInputs: {}, evaluate };
  const { ref } = await bridge.solve({ ...plain, definition, cacheImports }, signal);
  if (!ref) return null;
  const inTree = async <T>(work: (root: Rootfs) => T | Promise<T>): Promise<T> =>
    withTree(await ref.result(signal), bridge.mountLocally, signal, work);
  return {
    value: ref,
    readFile: (path, range) => inTree((root) => readFileIn(root, path, range)),
    newestIn: (path) =>
      inTree(async (root) => {
        const fd = root.openFile(path);
        try {
          // Worker threads have the same open files.
          return await bridge.newestFile(`/proc/self/fd/${fd}`, signal);
        } finally {
          closeSync(fd);
        }
      }),
  };
}

async function resolveImage(
  bridge: Bridge,
  ref: string,
  asked: SourceOp,
  options: Omit<ResolveImageOptions, 'platform'> & { readonly platform?: Platform },
  signal: AbortSignal,
): Promise<ResolvedImage> {
  const { image, source } = await bridge
    .resolveSourceMeta(
      {
        source: asked,
        platform: options.platform,
        resolveMode: options.resolveMode,
        logName: options.logName,
        noConfig: false,
      },
      options.signal ?? signal,
    )
    .catch((error: unknown) => {
      throw BuildError.wrap(error, `failed to resolve source metadata for ${ref}`);
    });
  if (!image) throw new NoImage(ref, source.identifier);
  const resolved = source.identifier.startsWith(IMAGE_SCHEME)
    ? source.identifier.slice(IMAGE_SCHEME.length)
    : ref;
  return { ref: resolved, digest: image.digest, config: image.config };
}
