import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { BlobProvider } from '../cache/ref.ts';
import { together } from '../cache/together.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { descriptorToJson } from '../oci/manifest.ts';
import { mediaTypeCacheConfig } from '../oci/media-types.ts';
import { Held, isManifestRefused, type Wanted } from '../registry/held.ts';
import type { VertexProgress } from '../solver/types.ts';
import type { ContentStore } from '../store/content.ts';
import type { Chains, LayerStack } from './chains.ts';
import { encodeConfig } from './config.ts';
import { formatChains } from './format.ts';
import { type CacheForm, encodeCacheManifest } from './manifest.ts';
import { oneOff } from './status.ts';

/** Layers that are sent side by side. */
const PARALLEL_LAYERS = 4;

/** Key of the response that names the manifest of an exported cache. */
export const RESPONSE_KEY = 'cache.manifest';

export interface CacheExportContext {
  readonly signal: AbortSignal;
  readonly progress: VertexProgress;
}

/** What blobs are read from. */
export type CacheContent = Pick<ContentStore, 'has' | 'read'>;

/** Writes a cache to its place; gives keys of the response. */
export type CacheWriter = (
  chains: Chains,
  content: CacheContent,
  context: CacheExportContext,
) => Promise<Record<string, string>>;

/** Where the blobs of a cache are put. What is there already is not sent again. */
export interface CacheSink {
  /** What is known to be there, without asking for each. */
  held?(wanted: Wanted, context: CacheExportContext): Promise<Held>;
  put(
    descriptor: Descriptor,
    open: (offset: number) => AsyncIterable<Uint8Array>,
    context: CacheExportContext,
  ): Promise<void>;
}

/** Writes a cache: layers side by side, then config, then manifest. Gives the keys of the response. */
export async function writeCache(
  chains: Chains,
  sink: CacheSink,
  form: CacheForm,
  content: CacheContent,
  context: CacheExportContext,
): Promise<Record<string, string>> {
  const { config, layers } = formatChains(chains);
  if (layers.length === 0) {
    await oneOff(context.progress, 'skipping cache export for empty result', async () => {});
    return {};
  }
  const json = encodeConfig(config);
  const configBlob = blob(json, mediaTypeCacheConfig);
  const manifest = encodeCacheManifest(
    layers.map(({ descriptor }) => descriptor),
    configBlob,
    form,
  );
  const root = blob(manifest.data, manifest.mediaType);
  const kind = form.imageManifest ? 'cache image manifest' : 'cache manifest';
  const write = (to: Descriptor, status: string, failure: string, data: Uint8Array): Promise<void> => {
    const open = async function* (offset: number) {
      yield data.subarray(offset);
    };
    return oneOff(context.progress, status, () => failing(failure, () => sink.put(to, open, context)));
  };
  const send = async (known: Held): Promise<void> => {
    await writeLayers(layers, known, sink, content, context);
    if (!known.has(configBlob.digest))
      await write(configBlob, `writing config ${configBlob.digest}`, 'error writing config blob', json);
    await write(root, `writing ${kind} ${root.digest}`, 'error writing manifest blob', manifest.data);
  };
  const held = (await sink.held?.({ root: root.digest, blobs: layers.length }, context)) ?? new Held();
  if (held.isAt(root.digest))
    await oneOff(context.progress, `writing ${kind} ${root.digest}`, async () => {}); // all of it is there
  else await sendMissing(held, send);
  return { [RESPONSE_KEY]: goJson(descriptorToJson(root)) };
}

async function sendMissing(held: Held, send: (known: Held) => Promise<void>): Promise<void> {
  try {
    await send(held);
  } catch (error) {
    if (held.isEmpty || !isManifestRefused(error)) throw error;
    await send(new Held()); // what was there may have gone meanwhile
  }
}

function blob(data: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(data), size: data.length };
}

async function writeLayers(
  layers: readonly LayerStack[],
  known: Held,
  sink: CacheSink,
  content: CacheContent,
  context: CacheExportContext,
): Promise<void> {
  const slots = new Semaphore(PARALLEL_LAYERS);
  const missing = layers.filter(({ descriptor }) => !known.has(descriptor.digest));
  const once = new Map(missing.map((layer) => [layer.descriptor.digest, layer]));
  await together(
    [...once.values()].map(({ descriptor, provider }) => async (signal) => {
      using _slot = await slots.acquire(signal);
      const open = (offset: number): AsyncIterable<Uint8Array> =>
        readBlob(descriptor, offset, provider, content, signal);
      await oneOff(context.progress, `writing layer ${descriptor.digest}`, () =>
        failing('error writing layer blob', () => sink.put(descriptor, open, { ...context, signal })),
      );
    }),
    context.signal,
  );
}

/** From the content store, or straight from where a lazy layer lies. */
export function readBlob(
  descriptor: Descriptor,
  offset: number,
  provider: BlobProvider | undefined,
  content: CacheContent,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  return provider && !content.has(descriptor.digest)
    ? provider.open(descriptor, offset, { signal })
    : content.read(descriptor.digest, { signal, offset });
}

/** An error of `work` starts with `prefix`. */
export async function failing<T>(prefix: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw BuildError.wrap(error, prefix);
  }
}
