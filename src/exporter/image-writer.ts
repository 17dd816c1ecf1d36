import { type Attestation, isInlineOnly } from '../attest/attestation.ts';
import { digestSet } from '../attest/capture.ts';
import { imagePurl } from '../attest/purl.ts';
import type { Digest } from '../base/digest.ts';
import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import {
  annotationCreatedAt,
  annotationDescription,
  annotationDistributionSource,
  annotationUncompressed,
  type Descriptor,
} from '../oci/descriptor.ts';
import { type ConfigLayer, defaultImageConfig, patchImageConfig } from '../oci/image-config.ts';
import { encodeManifest } from '../oci/manifest.ts';
import {
  convertLayerMediaType,
  mediaTypeDockerConfig,
  mediaTypeDockerList,
  mediaTypeDockerManifest,
  mediaTypeOciConfig,
  mediaTypeOciIndex,
  mediaTypeOciManifest,
} from '../oci/media-types.ts';
import { parseTime, timeFromDate } from '../oci/time.ts';
import { Annotations } from './annotations.ts';
import type { TreeServices } from './attestation-files.ts';
import { attestationManifest } from './attestation-manifest.ts';
import { readAttestations, statementsOf } from './attestations.ts';
import { epochOf, type ImageAttrs } from './attrs.ts';
import { type ExportContext, type ExportSource, oneOff } from './exporter.ts';
import {
  isMultiRef,
  keyBaseConfig,
  keyImageConfig,
  platformValue,
  refOf,
  type ResultPlatform,
  resultPlatforms,
} from './platforms.ts';
import { type RewriteServices, rewriteTimes } from './rewrite.ts';
import { type FilesInLayer, withLayerIds } from './sbom-layers.ts';

export interface CommitOptions {
  readonly attrs: ImageAttrs;
  readonly ociTypes: boolean;
  /** Attestation manifests as artifacts that name their image. */
  readonly ociArtifact: boolean;
  /** Names of the image, for what is said of it. */
  readonly names: readonly string[];
  /** Attestations that are for images only make an index, too. */
  readonly attestationInline: boolean;
  /** Holds all blobs of the image. */
  readonly lease: string;
}

export interface ImageWriterServices extends RewriteServices, TreeServices {
  readonly jobs: RewriteServices['jobs'] & TreeServices['jobs'];
}

/** What was written. */
export interface CommittedImage {
  /** Of the index, or of the manifest with its platform. */
  readonly descriptor: Descriptor;
  /** Of a single manifest. */
  readonly configDigest: Digest | undefined;
  /** Layers as their refs describe them, with the annotations that manifests leave out. */
  readonly layers: readonly Descriptor[];
}

/** Writes config, manifest and index of a result into the content store (FEATURES J26, J27, J28). */
export class ImageWriter {
  readonly #services: ImageWriterServices;

  constructor(services: ImageWriterServices) {
    this.#services = services;
  }

  async commit(
    source: ExportSource,
    options: CommitOptions,
    context: ExportContext,
  ): Promise<CommittedImage> {
    const platforms = resultPlatforms(source);
    if (!isMultiRef(source) && platforms.length > 1)
      throw new BuildError('cannot export multiple platforms without multi-platform enabled');
    const single = !needsIndex(source, platforms, options);
    const annotations = Annotations.of(options.attrs.annotations, source);
    annotations.check(source, { ociTypes: options.ociTypes, single });
    if (!single && !options.ociTypes && source.attestations?.size)
      throw new BuildError('cannot export attestations with "oci-mediatypes=false"');
    const refs = platforms.map((platform) => refOf(source, platform.id));
    const chains = await oneOff(context.progress, 'exporting layers', () =>
      Promise.all(refs.map((ref) => this.#layers(ref, options, context))),
    );
    const work: Work = { source, annotations, single, options, context };
    const images: Written[] = [];
    const said: Descriptor[] = [];
    for (const [i, platform] of platforms.entries()) {
      const image = await this.#writeImage(work, platform, refs[i]!, chains[i]!);
      images.push(image);
      const attestations = source.attestations?.get(platform.id);
      if (!single && attestations) said.push(await this.#attest(work, image, attestations));
    }
    const layers = images.flatMap((image) => image.layers);
    const [only] = images;
    if (single && only) return { descriptor: only.manifest, configDigest: only.config, layers };
    const index = await this.#writeIndex(work, [...images.map((image) => image.manifest), ...said]);
    return { descriptor: index, configDigest: undefined, layers };
  }

  async #layers(
    ref: ImmutableRef | null,
    options: CommitOptions,
    context: ExportContext,
  ): Promise<readonly Descriptor[]> {
    if (!ref) return [];
    const { compression, preferNonDistributable } = options.attrs;
    const { lease } = options;
    return ref.ensureBlobs({ compression, lease, preferNonDistributable }, { signal: context.signal });
  }

  async #writeImage(
    { source, annotations, single, options, context }: Work,
    platform: ResultPlatform,
    ref: ImmutableRef | null,
    chain: readonly Descriptor[],
  ): Promise<Written> {
    const epoch = epochOf(options.attrs.epoch, source, platform);
    const baseConfig = platformValue(source, keyBaseConfig, platform);
    const given = platformValue(source, keyImageConfig, platform);
    const { compression, rewriteTimestamp } = options.attrs;
    const inlineCache = ref && (await context.inlineCache?.(ref, chain, compression, context));
    const rewriting = { epoch, baseConfig, compression, lease: options.lease };
    const layers =
      ref && rewriteTimestamp ? await rewriteTimes(ref, chain, rewriting, this.#services, context) : chain;
    const configBytes = patchImageConfig(
      given?.length ? given : defaultImageConfig(),
      configLayers(layers, ref),
      {
        ...(epoch ? { epoch } : {}),
        ...(baseConfig ? { baseConfig } : {}),
        ...(inlineCache ? { inlineCache } : {}),
      },
    );
    const config: Descriptor = {
      mediaType: options.ociTypes ? mediaTypeOciConfig : mediaTypeDockerConfig,
      digest: digestOf(configBytes),
      size: configBytes.length,
    };
    const mediaType = options.ociTypes ? mediaTypeOciManifest : mediaTypeDockerManifest;
    const manifestLayers = layers.map((layer) => plainLayer(layer, options.ociTypes));
    // A single image takes the annotations of all platforms only.
    const named = single ? undefined : platform.platform;
    const text = encodeManifest({
      kind: 'manifest',
      mediaType,
      config,
      layers: manifestLayers,
      ...annotations.manifest(named),
    });
    const manifest = {
      mediaType,
      digest: digestOf(text),
      size: text.length,
      platform: platform.platform,
      ...annotations.manifestDescriptor(named),
    };
    const { progress } = context;
    await oneOff(progress, `exporting manifest ${manifest.digest}`, () =>
      this.#write(text, [config, ...layers], options.lease),
    );
    await oneOff(progress, `exporting config ${config.digest}`, () =>
      this.#write(configBytes, [], options.lease),
    );
    return { manifest, config: config.digest, ref, layers };
  }

  /** Writes what is said of an image beside it, in a manifest of its own (FEATURES J33). */
  async #attest(
    { options, context }: Work,
    { manifest: target, ref, layers }: Written,
    attestations: readonly Attestation<ImmutableRef>[],
  ): Promise<Descriptor> {
    const { signal, progress } = context;
    const read = await readAttestations(attestations, { mount: this.#services.mount, signal });
    const filesIn: FilesInLayer = async ({ digest }, wanted) => {
      await ref?.ensureLocalBlobs({ signal });
      const input = { path: this.#services.content.path(digest), wanted };
      return this.#services.jobs.run('filesInLayer', input, { signal });
    };
    const whole = ref ? await Promise.all(read.map((one) => withLayerIds(one, layers, filesIn))) : read;
    const subjects = options.names.map((name) => ({
      name: imagePurl('docker', name, { platform: target.platform }),
      digest: digestSet(target.digest),
    }));
    const statements = statementsOf(whole, subjects);
    const written = attestationManifest(target, statements, { artifact: options.ociArtifact });
    await oneOff(progress, `exporting attestation manifest ${written.descriptor.digest}`, async () => {
      for (const blob of written.blobs) await this.#write(blob, [], options.lease);
      await this.#write(written.manifest, written.children, options.lease);
    });
    return written.descriptor;
  }

  async #writeIndex(
    { annotations, options, context }: Work,
    manifests: readonly Descriptor[],
  ): Promise<Descriptor> {
    const mediaType = options.ociTypes ? mediaTypeOciIndex : mediaTypeDockerList;
    const text = encodeManifest({ kind: 'index', mediaType, manifests, ...annotations.index() });
    const digest = digestOf(text);
    await oneOff(context.progress, `exporting manifest list ${digest}`, () =>
      this.#write(text, manifests, options.lease),
    );
    return { mediaType, digest, size: text.length, ...annotations.indexDescriptor() };
  }

  async #write(data: Uint8Array, children: readonly Descriptor[], lease: string): Promise<void> {
    const labels = children.map(({ digest }, i) => [`containerd.io/gc.ref.content.${i}`, digest]);
    await this.#services.content.writeBlob(data, { labels: Object.fromEntries(labels), lease });
  }
}

/** One result on its way into the store. */
interface Work {
  readonly source: ExportSource;
  readonly annotations: Annotations;
  /** A manifest alone, without an index. */
  readonly single: boolean;
  readonly options: CommitOptions;
  readonly context: ExportContext;
}

function needsIndex(
  source: ExportSource,
  platforms: readonly ResultPlatform[],
  { attestationInline }: CommitOptions,
): boolean {
  if (isMultiRef(source)) return true;
  return platforms.some(({ id }) =>
    (source.attestations?.get(id) ?? []).some((one) => attestationInline || !isInlineOnly(one)),
  );
}

interface Written {
  readonly manifest: Descriptor;
  readonly config: Digest;
  readonly ref: ImmutableRef | null;
  readonly layers: readonly Descriptor[];
}

/** Times and descriptions of the layers, from their records where the descriptors say nothing. */
function configLayers(layers: readonly Descriptor[], ref: ImmutableRef | null): ConfigLayer[] {
  const records = (ref?.layerChain() ?? []).slice(-layers.length);
  return layers.map((layer, i) => {
    const { annotations = {} } = layer;
    const record = records[i];
    const diffId = annotations[annotationUncompressed] as Digest | undefined;
    if (!diffId) throw new BuildError(`missing diff ID of layer ${layer.digest}`);
    const created = annotations[annotationCreatedAt];
    const description = record?.description || annotations[annotationDescription];
    return {
      diffId,
      ...(record
        ? { created: timeFromDate(record.createdAt) }
        : created
          ? { created: parseTime(created) }
          : {}),
      ...(description ? { description } : {}),
    };
  });
}

const INTERNAL_ANNOTATIONS = new Set([annotationUncompressed, annotationCreatedAt, annotationDescription]);

/** The layer as a manifest names it: the media type's family changed, our own annotations left out. */
export function plainLayer(layer: Descriptor, oci: boolean): Descriptor {
  const { annotations, platform: _, ...rest } = layer;
  const kept = Object.entries(annotations ?? {}).filter(
    ([key]) => !INTERNAL_ANNOTATIONS.has(key) && !key.startsWith(`${annotationDistributionSource}.`),
  );
  return {
    ...rest,
    mediaType: convertLayerMediaType(layer.mediaType, oci),
    ...(oci && kept.length ? { annotations: Object.fromEntries(kept) } : {}),
  };
}
