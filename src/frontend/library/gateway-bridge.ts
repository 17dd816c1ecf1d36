import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newestFile } from '../../archive/newest.ts';
import type { GatewayClient, Reference } from '../../gateway/types.ts';
import { decodeDefinition, encodeDefinition } from '../../llb/encode.ts';
import type { SourceOp } from '../../llb/ops.ts';
import { hostPlatform, type Platform } from '../../oci/platform.ts';
import type { SourceMeta } from '../bridge.ts';
import { type BuildRef, type FrontendBridge, IMAGE_SCHEME, LAYOUT_SCHEME, NoImage } from '../build-bridge.ts';

/** Bytes of one call for a part of a file; daemons refuse messages that are much larger. */
const PART_BYTES = 8 << 20;
const HAS_TIME = /^(?:git|https?):\/\//;

type Bridge = FrontendBridge<Reference>;

/** What frontends of the daemon need of a build, from the other end of its gateway. */
export async function gatewayBridge(gateway: GatewayClient): Promise<Bridge> {
  const inputs = gateway.capabilities.has('frontend.inputs') ? await gateway.inputs() : {};
  return {
    options: new Map(Object.entries(gateway.options)),
    sessionId: gateway.sessionId,
    workerPlatforms: workerPlatforms(gateway),
    caps: gateway.llbCapabilities,
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, def]) => [name, decodeDefinition(def)])),
    signal: gateway.signal,
    served: [],
    solve: async (definition, cacheImports, { evaluate = false } = {}) => {
      const bytes = encodeDefinition(definition);
      const { ref } = await gateway.solve({ definition: bytes, cacheImports, evaluate });
      return ref ? builtRef(ref, gateway.signal) : null;
    },
    ...resolvers(gateway),
    warn: ({ vertex, short, level }) =>
      void gateway.warn(vertex, Buffer.from(short).toString(), { level }).catch(() => {}), // the build goes on
    runFrontend: async (frontend, frontendOptions) => {
      const result = await gateway.solve({ frontend, frontendOptions, frontendInputs: inputs });
      return {
        ref: result.ref ?? null,
        ...(result.refs
          ? { refs: new Map(Object.entries(result.refs).map(([id, ref]) => [id, ref ?? null])) }
          : {}),
        metadata: new Map(Object.entries(result.metadata)),
      };
    },
  };
}

function workerPlatforms({ workers }: GatewayClient): readonly Platform[] {
  const known = workers[0]?.platforms ?? [];
  if (known.length === 0) return [hostPlatform()];
  return known.map(({ os, architecture, variant, osVersion, osFeatures }) => ({
    os,
    architecture,
    ...(variant ? { variant } : {}),
    ...(osVersion ? { osVersion } : {}),
    ...(osFeatures.length > 0 ? { osFeatures } : {}),
  }));
}

function resolvers(
  gateway: GatewayClient,
): Pick<Bridge, 'resolveImage' | 'resolveLayout' | 'describeSource'> {
  return {
    resolveImage: async (ref, { platform, resolveMode, logName, signal }) => {
      const options = { platform, resolveMode, logName, ...(signal ? { signal } : {}) };
      if (!gateway.capabilities.has('source.metaresolver')) {
        const { reference, ...image } = await gateway.resolveImage(ref, options);
        return { ref: reference, ...image };
      }
      const { source, image } = await gateway.resolveSource({ identifier: IMAGE_SCHEME + ref }, options);
      if (!image) throw new NoImage(ref, source.identifier);
      const isImage = source.identifier.startsWith(IMAGE_SCHEME);
      return { ref: isImage ? source.identifier.slice(IMAGE_SCHEME.length) : ref, ...image };
    },
    resolveLayout: async (ref, { sessionId, storeId }, { platform, logName, signal }) => {
      const { source, image } = await gateway.resolveSource(
        {
          identifier: LAYOUT_SCHEME + ref,
          attrs: { 'oci.session': sessionId, 'oci.store': storeId },
        },
        { logName, ...(platform ? { platform } : {}), ...(signal ? { signal } : {}) },
      );
      if (!image) throw new NoImage(ref, source.identifier);
      return { ref, ...image };
    },
    describeSource: (source, logName) => describeSource(gateway, source, logName),
  };
}

/** Of sources that have a time; daemons refuse questions about folders. */
async function describeSource(
  gateway: GatewayClient,
  source: SourceOp,
  logName: string,
): Promise<SourceMeta> {
  if (!HAS_TIME.test(source.identifier)) return { source };
  const found = await gateway.resolveSource(source, { logName, gitObjects: true });
  const { http } = found;
  return {
    source: found.source,
    ...(found.git ? { git: found.git } : {}),
    ...(http
      ? {
          http: {
            checksum: http.digest,
            filename: http.filename,
            ...(http.lastModified ? { lastModified: http.lastModified } : {}),
          },
        }
      : {}),
  };
}

function builtRef(ref: Reference, signal: AbortSignal): BuildRef<Reference> {
  return {
    value: ref,
    readFile: (path, range) => ref.readFile(path, range),
    newestIn: (path) => newestIn(ref, path, signal),
  };
}

async function newestIn(ref: Reference, path: string, signal: AbortSignal): Promise<number | undefined> {
  await mkdir(tmpdir(), { recursive: true }); // an image may have none
  const dir = await mkdtemp(join(tmpdir(), 'context-'));
  try {
    const file = join(dir, 'archive');
    await writeFile(file, fileParts(ref, path));
    return await newestFile(
      { path: file },
      { throwIfAborted: () => signal.throwIfAborted(), report: () => {} },
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function* fileParts(ref: Reference, path: string): AsyncGenerator<Uint8Array, void, void> {
  for (let offset = 0; ; ) {
    const part = await ref.readFile(path, { offset, length: PART_BYTES });
    yield part;
    offset += part.length;
    if (part.length < PART_BYTES) return;
  }
}
