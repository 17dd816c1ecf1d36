import { type Digest, isDigest } from '../base/digest.ts';
import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { BlobProvider } from '../cache/ref.ts';
import { together } from '../cache/together.ts';
import { annotationCreatedAt, annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { parseTime } from '../oci/time.ts';
import type { LoadContext } from '../solver/sources.ts';
import type { LayerStack } from './chains.ts';
import { type ConfigLayer, decodeConfig, encodeConfig, type LayerAnnotations } from './config.ts';
import { type CacheContent, type CacheExportContext, type CacheWriter, failing, readBlob } from './export.ts';
import { formatChains } from './format.ts';
import { importedCache } from './graph.ts';
import type { CacheImportContext, CachePlace, CacheReader } from './import.ts';
import { MAX_OBJECT_CONFIG_BYTES } from './limits.ts';
import { parseChains } from './parse.ts';
import { oneOff } from './status.ts';

/**
 * Where a cache is put that keeps objects by name, and no manifests: layers by their digests, and for each name of the
 * cache its config, which says of the layers what elsewhere a manifest says (FEATURES K13, K18, K20).
 */
export interface ObjectSink {
  /** Layers that are looked for and sent side by side. */
  readonly parallel: number;
  /** Whether the layer is there; one that is will stay there for a while. */
  has(layer: Descriptor, context: CacheExportContext): Promise<boolean>;
  put(
    layer: Descriptor,
    open: (offset: number) => AsyncIterable<Uint8Array>,
    context: CacheExportContext,
  ): Promise<void>;
  /** Under all names of the cache, in place of what is there. */
  putConfig(json: Uint8Array, context: CacheExportContext): Promise<void>;
}

/** Writes caches into a store of objects: layers side by side, then the config. */
export function objectWriter(sink: ObjectSink): CacheWriter {
  return async (chains, content, context) => {
    const { config, layers } = formatChains(chains);
    const said = config.layers.map(
      (layer, i): ConfigLayer => ({ ...layer, annotations: annotationsOf(layers[i]!.descriptor) }),
    );
    await writeLayers(layers, sink, content, context);
    await sink.putConfig(encodeConfig({ ...config, layers: said }), context);
    return {};
  };
}

async function writeLayers(
  layers: readonly LayerStack[],
  sink: ObjectSink,
  content: CacheContent,
  context: CacheExportContext,
): Promise<void> {
  const slots = new Semaphore(sink.parallel);
  const once = new Map(layers.map((layer) => [layer.descriptor.digest, layer]));
  await together(
    [...once.values()].map(({ descriptor, provider }) => async (signal) => {
      using _slot = await slots.acquire(signal);
      const own = { ...context, signal };
      if (await sink.has(descriptor, own)) return;
      const open = (offset: number): AsyncIterable<Uint8Array> =>
        readBlob(descriptor, offset, provider, content, signal);
      await oneOff(context.progress, `writing layer ${descriptor.digest}`, () =>
        failing('error writing layer blob', () => sink.put(descriptor, open, own)),
      );
    }),
    context.signal,
  );
}

function annotationsOf({ mediaType, size, annotations = {} }: Descriptor): LayerAnnotations {
  const diffId = annotations[annotationUncompressed];
  if (diffId === undefined || !isDigest(diffId))
    throw new BuildError('invalid descriptor without uncompressed annotation', { code: Code.internal });
  const created = annotations[annotationCreatedAt];
  return { mediaType, diffId, size, createdAt: created === undefined ? undefined : inUtc(created) };
}

function inUtc(text: string): string {
  const { ns, text: own } = parseTime(text);
  const seconds = new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}${/\.\d+/.exec(own)?.[0] ?? ''}Z`;
}

/** Where a cache comes from that `objectWriter` or its like has written. */
export interface ObjectOrigin {
  /**
   * The config of each name that is imported, undefined for one that is not there. Refuses more than
   * `maxBytes` for one.
   */
  configs(maxBytes: number, context: CacheImportContext): Promise<readonly (Uint8Array | undefined)[]>;
  /** Reads layers on behalf of those who want them, who may be other builds. */
  provider(context: LoadContext): BlobProvider;
}

/** A place to import from, once `open` has reached it. */
export function objectPlace(open: (signal: AbortSignal) => Promise<ObjectOrigin>): CachePlace {
  return { resolve: async (signal) => objectReader(await open(signal)) };
}

/** Reads the caches of an origin, one for each name; what is not there is an empty cache. */
export function objectReader(origin: ObjectOrigin): CacheReader {
  return async (id, { refs }, context) => {
    const configs = await origin.configs(MAX_OBJECT_CONFIG_BYTES, context);
    const layers = { refs, provider: (load: LoadContext) => origin.provider(load), eager: false };
    return configs.flatMap((json, i) => {
      if (!json) return [];
      const config = decodeConfig(json);
      return [importedCache(parseChains(config, layersOf(config.layers)), `${id}#${i}`, layers)];
    });
  };
}

function layersOf(layers: readonly ConfigLayer[]): Map<Digest, Descriptor> {
  return new Map(
    layers.map(({ blob, annotations }) => {
      if (!annotations) throw invalidArgument('cache layer with missing annotations');
      const { mediaType, diffId, size, createdAt } = annotations;
      const said = {
        [annotationUncompressed]: diffId,
        ...(createdAt === undefined ? {} : { [annotationCreatedAt]: createdAt }),
      };
      return [blob, { mediaType, digest: blob, size, annotations: said }];
    }),
  );
}
