import { CURRENT_VERSION, hasOldZstd, prefersOci, unsupportedFeature } from '../base/compatibility.ts';
import { BuildError } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { descriptorToJson } from '../oci/manifest.ts';
import { formatSeconds } from '../oci/time.ts';
import type { Registry } from '../registry/registry.ts';
import type { LeaseStore } from '../store/lease.ts';
import {
  type Attrs,
  checkMediaTypes,
  flagAttr,
  type ImageAttrs,
  parseImageAttrs,
  withMetadata,
} from './attrs.ts';
import type { ExportContext, Exporter, ExportResult, ExportSource, ExportTarget } from './exporter.ts';
import {
  type CommitOptions,
  type CommittedImage,
  ImageWriter,
  type ImageWriterServices,
} from './image-writer.ts';
import { allRefs } from './platforms.ts';
import { pushImage } from './push.ts';

export interface ImageExporterServices extends ImageWriterServices {
  readonly leases: Pick<LeaseStore, 'hold'>;
  readonly registry: Pick<Registry, 'push' | 'held'>;
}

/** Images in the daemon's content store, pushed on request (FEATURES J3-J7, J18). */
export class ImageExporter implements Exporter {
  readonly type = 'image';
  readonly name = 'exporting to image';
  readonly attrs: Attrs;
  readonly #parsed: ImageAttrs;
  readonly #push: boolean;
  readonly #byDigest: boolean;
  readonly #insecure: boolean;
  readonly #services: ImageExporterServices;
  readonly #target: Pick<ExportTarget, 'credentials'>;

  /** @throws for attributes that have a bad value */
  constructor(attrs: Attrs, services: ImageExporterServices, target: Pick<ExportTarget, 'credentials'>) {
    this.attrs = attrs;
    this.#parsed = parseImageAttrs(attrs);
    this.#push = flagAttr(attrs, 'push', false);
    this.#byDigest = flagAttr(attrs, 'push-by-digest', false);
    this.#insecure = flagAttr(attrs, 'registry.insecure', false);
    this.#services = services;
    this.#target = target;
    // This worker has no image store: as upstream's OCI worker, it has nothing to store or unpack into.
    flagAttr(attrs, 'store', true);
    flagAttr(attrs, 'unpack', false);
  }

  async export(given: ExportSource, context: ExportContext): Promise<ExportResult> {
    const source = withMetadata(given, this.#parsed);
    const lease = this.#services.leases.hold();
    try {
      const writer = new ImageWriter(this.#services);
      const name = imageName(this.#parsed.name, source);
      const more = { type: this.type, attestationInline: true, lease: lease.id };
      const options = commitOptions(this.#parsed, name, more, source, context);
      const image = await writer.commit(source, options, context);
      const { response, descriptor } = imageResponse(image, name);
      const names = this.#push ? name.split(',').filter((n) => n !== '') : [];
      return {
        response,
        descriptor,
        ...(names.length ? { finalize: (c) => this.#pushAll(names, image, source, c) } : {}),
        release: () => lease[Symbol.dispose](),
      };
    } catch (error) {
      lease[Symbol.dispose]();
      throw error;
    }
  }

  async #pushAll(
    names: readonly string[],
    image: CommittedImage,
    source: ExportSource,
    context: ExportContext,
  ): Promise<void> {
    for (const name of names) {
      try {
        const request = {
          name,
          digest: image.descriptor.digest,
          byDigest: this.#byDigest,
          insecure: this.#insecure,
          credentials: this.#target.credentials,
          layers: image.layers,
          refs: allRefs(source),
        };
        await pushImage(this.#services, request, context);
      } catch (error) {
        throw BuildError.wrap(error, `failed to push ${name}`);
      }
    }
  }
}

/**
 * What the attributes leave open is as the build's version has it.
 * @param name names of the image, with commas between them
 * @throws for what that version does not have
 */
export function commitOptions(
  attrs: ImageAttrs,
  name: string,
  { type, ...more }: Pick<CommitOptions, 'attestationInline' | 'lease'> & { readonly type: string },
  source: ExportSource,
  { version = CURRENT_VERSION }: ExportContext,
): CommitOptions {
  const oci = prefersOci(version);
  const isSaid = (source.attestations?.size ?? 0) > 0;
  const ociTypes = attrs.ociTypes ?? (type === 'oci' || oci || isSaid);
  const ociArtifact = attrs.ociArtifact ?? (oci && ociTypes);
  checkMediaTypes({ ...attrs, ociTypes, ociArtifact });
  if (attrs.compression.type === 'zstd' && hasOldZstd(version))
    throw unsupportedFeature(version, `${type} exporter compression=zstd`);
  return {
    ...more,
    attrs,
    ociTypes,
    ociArtifact,
    attestationInline: attrs.attestationInline ?? more.attestationInline,
    names: name.split(',').filter((one) => one !== ''),
  };
}

/** The `name` attribute; `*` is the frontend's `image.name`. */
export function imageName(attr: string, source: ExportSource): string {
  const given = source.metadata.get('image.name');
  return attr === '*' && given !== undefined ? Buffer.from(given).toString() : attr;
}

/** Keys of FEATURES J18 and the descriptor they tell of. */
export function imageResponse(
  image: CommittedImage,
  name: string,
  annotations: Readonly<Record<string, string>> = {},
): { response: Record<string, string>; descriptor: Descriptor } {
  const { configDigest } = image;
  const all = { ...annotations, ...image.descriptor.annotations };
  const plain: Descriptor = { ...image.descriptor, annotations: all };
  const json = goJson(descriptorToJson(plain));
  const response = {
    ...(name === '' ? {} : { 'image.name': name }),
    'containerimage.digest': plain.digest,
    ...(configDigest ? { 'containerimage.config.digest': configDigest } : {}),
    'containerimage.descriptor': Buffer.from(json).toString('base64'),
  };
  return { response, descriptor: plain };
}

/** `org.opencontainers.image.created` of an archive: the epoch, else now. */
export function createdAnnotation(date: Date): Record<string, string> {
  return { 'org.opencontainers.image.created': formatSeconds(date) };
}
