import { rm } from 'node:fs/promises';
import type { ArchiveJobs } from '../archive/jobs.ts';
import { BuildError } from '../base/errors.ts';
import { blobFile } from '../cache/archive-jobs.ts';
import { annotationLabels, LABEL_ESTARGZ } from '../cache/blob-types.ts';
import { layerMediaType } from '../cache/compression.ts';
import type { Compression, ImmutableRef } from '../cache/ref.ts';
import { together } from '../cache/together.ts';
import { annotationRewritten, annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { parseImageConfig } from '../oci/image-config.ts';
import type { ImageTime } from '../oci/time.ts';
import type { JobRunner } from '../pool/types.ts';
import type { ContentStore } from '../store/content.ts';
import { type ExportContext, oneOff } from './exporter.ts';

const NS_PER_S = 1_000_000_000n;

export interface RewriteServices {
  readonly content: ContentStore;
  readonly jobs: JobRunner<Pick<ArchiveJobs, 'convertBlob'>>;
}

export interface RewriteOptions {
  readonly epoch: ImageTime | undefined;
  /** Config of the base image, whose layers stay as they are. */
  readonly baseConfig: Uint8Array | undefined;
  readonly compression: Compression;
  /** Holds the new blobs. */
  readonly lease: string;
}

/** Layers in which no file is newer than the epoch (FEATURES J12). The refs keep theirs. */
export async function rewriteTimes(
  ref: ImmutableRef,
  layers: readonly Descriptor[],
  options: RewriteOptions,
  services: RewriteServices,
  context: ExportContext,
): Promise<readonly Descriptor[]> {
  const { epoch, baseConfig } = options;
  const { progress, signal } = context;
  if (!epoch) {
    progress.log(2, Buffer.from('rewrite-timestamp is specified, but no source-date-epoch was found\n'));
    return layers;
  }
  const seconds = Number(epoch.ns / NS_PER_S);
  const kept = sameLayers(layers, ref, baseConfig);
  const own = layers.slice(kept);
  const date = new Date(seconds * 1000).toISOString();
  const shown = `${date.slice(0, 10)} ${date.slice(11, 19)} +0000 UTC`;
  return oneOff(progress, `rewriting layers with source-date-epoch ${seconds} (${shown})`, async () => {
    if (own.some(({ digest }) => !services.content.has(digest))) await ref.ensureLocalBlobs({ signal });
    const works = own.map(
      (layer) => (stop: AbortSignal) => rewriteLayer(layer, seconds, options, services, stop),
    );
    return [...layers.slice(0, kept), ...(await together(works, signal))];
  });
}

/** How many layers are those of the base image, whatever their form: in estargz they unpack to more. */
function sameLayers(
  layers: readonly Descriptor[],
  ref: ImmutableRef,
  baseConfig: Uint8Array | undefined,
): number {
  const base = baseConfig?.length ? parseImageConfig(baseConfig).diffIds : [];
  const records = ref.layerChain().slice(-layers.length);
  const other = layers.findIndex(
    (layer, i) => layer.annotations?.[annotationUncompressed] !== base[i] && records[i]?.diffId !== base[i],
  );
  return other < 0 ? layers.length : other;
}

async function rewriteLayer(
  layer: Descriptor,
  seconds: number,
  { compression, lease }: RewriteOptions,
  { content, jobs }: RewriteServices,
  signal: AbortSignal,
): Promise<Descriptor> {
  const { type, level } = compression;
  const output = content.tmpPath('rewritten');
  const form = { compression: type, ...(level === undefined ? {} : { level }) };
  try {
    const input = { source: content.path(layer.digest), maxTimeSec: seconds, ...form, blob: output };
    const file = blobFile(await jobs.run('convertBlob', input, { signal }));
    const { digest, size } = file;
    const own = { [annotationUncompressed]: file.diffId, [annotationRewritten]: String(seconds) };
    const isEstargz = { [LABEL_ESTARGZ]: String(type === 'estargz') };
    const labels = { ...own, ...isEstargz, ...annotationLabels(file.annotations) };
    await content.commitFile(output, { digest, size, lease, labels });
    return { mediaType: layerMediaType(type), digest, size, annotations: { ...own, ...file.annotations } };
  } catch (error) {
    await rm(output, { force: true });
    throw BuildError.wrap(error, `failed to rewrite the times of layer ${layer.digest}`);
  }
}
