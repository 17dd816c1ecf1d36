import { closeSync } from 'node:fs';
import { BuildError } from '../base/errors.ts';
import type { ResolvedImage, ResolveImageOptions } from '../dockerfile/convert/options.ts';
import { ENABLED_CAPS } from '../llb/caps.ts';
import type { Definition, SourceOp } from '../llb/ops.ts';
import type { Platform } from '../oci/platform.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import type { Bridge, CacheImport, SolveRequest } from './bridge.ts';
import { type BuildRef, type FrontendBridge, IMAGE_SCHEME, LAYOUT_SCHEME, NoImage } from './build-bridge.ts';
import type { LazyRef } from './result.ts';
import { readFileIn, withTree } from './tree.ts';

/** The bridge of a build inside the daemon. */
export function daemonBridge(
  bridge: Bridge,
  request: SolveRequest,
  signal: AbortSignal,
  served: readonly string[] = [],
): FrontendBridge<LazyRef> {
  const { inputs } = bridge;
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
