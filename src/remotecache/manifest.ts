import type { Digest } from '../base/digest.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { annotationDescription, annotationDistributionSource, type Descriptor } from '../oci/descriptor.ts';
import { encodeManifest, parseDescriptor } from '../oci/manifest.ts';
import {
  convertLayerMediaType,
  isIndexType,
  isManifestType,
  mediaTypeCacheConfig,
  mediaTypeDockerList,
  mediaTypeDockerManifest,
  mediaTypeOciIndex,
  mediaTypeOciManifest,
} from '../oci/media-types.ts';

/** How a cache is written: as an image manifest or as an index of blobs, in OCI's or Docker's names. */
export interface CacheForm {
  readonly imageManifest: boolean;
  readonly oci: boolean;
}

export interface EncodedManifest {
  readonly mediaType: string;
  readonly data: Uint8Array;
}

/** FEATURES K5, K6. @throws for an image manifest in Docker's names */
export function encodeCacheManifest(
  layers: readonly Descriptor[],
  config: Descriptor,
  form: CacheForm,
): EncodedManifest {
  checkForm(form);
  const blobs = layers.map((layer) => manifestLayer(layer, form.oci));
  const indent = { indent: '' };
  if (form.imageManifest) {
    const mediaType = mediaTypeOciManifest;
    return {
      mediaType,
      data: encodeManifest({ kind: 'manifest', mediaType, config, layers: blobs }, indent),
    };
  }
  const mediaType = form.oci ? mediaTypeOciIndex : mediaTypeDockerList;
  return {
    mediaType,
    data: encodeManifest({ kind: 'index', mediaType, manifests: [...blobs, config] }, indent),
  };
}

export function checkForm({ imageManifest, oci }: CacheForm): void {
  if (imageManifest && !oci)
    throw new BuildError(
      'invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache format',
    );
}

/** What a layer unpacks to is needed to use it; where it came from and what step made it stays here. */
function manifestLayer({ annotations = {}, ...rest }: Descriptor, oci: boolean): Descriptor {
  const kept = Object.entries(annotations).filter(
    ([key]) => key !== annotationDescription && !key.startsWith(annotationDistributionSource),
  );
  return {
    ...rest,
    mediaType: convertLayerMediaType(rest.mediaType, oci),
    annotations: Object.fromEntries(kept),
  };
}

export interface CacheManifest {
  readonly mediaType: string;
  /** Of a manifest its layers, of an index its entries; without the cache config. */
  readonly blobs: ReadonlyMap<Digest, Descriptor>;
  /** Of the cache config; undefined for an image or an index of images. */
  readonly config: Descriptor | undefined;
}

/** Reads either form. @throws invalidArgument */
export function decodeCacheManifest(data: Uint8Array): CacheManifest {
  const fields = parseFields(data);
  const mediaType = detectType(fields);
  const blobs = new Map<Digest, Descriptor>();
  let config: Descriptor | undefined;
  const add = (entry: unknown, what: string): void => {
    const descriptor = parseDescriptor(entry, what);
    if (descriptor.mediaType === mediaTypeCacheConfig) config = descriptor;
    else blobs.set(descriptor.digest, descriptor);
  };
  if (isIndexType(mediaType)) {
    for (const [i, entry] of list(fields.manifests).entries()) add(entry, `manifests[${i}]`);
    return { mediaType, blobs, config };
  }
  const own = parseDescriptor(fields.config, 'config');
  for (const [i, entry] of list(fields.layers).entries()) add(entry, `layers[${i}]`);
  return { mediaType, blobs, config: own.mediaType === mediaTypeCacheConfig ? own : undefined };
}

type Fields = Record<string, unknown>;

/** Media type of a manifest or index by what is in it; its own word counts when it fits (FEATURES K6). */
function detectType(fields: Fields): string {
  const isManifest = present(fields.config) || present(fields.layers);
  if (isManifest && present(fields.manifests))
    throw invalidArgument('invalid ambiguous manifest and manifest list');
  const { mediaType } = fields;
  if (typeof mediaType === 'string' && (isIndexType(mediaType) || isManifestType(mediaType))) {
    if (isManifestType(mediaType) !== isManifest)
      throw invalidArgument('mediaType in manifest does not match manifest contents');
    return mediaType;
  }
  return isManifest ? mediaTypeDockerManifest : mediaTypeDockerList;
}

/** Also a list that is null: Go keeps the text of it. */
function present(value: unknown): boolean {
  return value !== undefined;
}

function parseFields(data: Uint8Array): Fields {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(data).toString());
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse cache manifest');
  }
  if (typeof value !== 'object' || value === null) throw invalidArgument('invalid cache manifest');
  return value as Fields;
}

function list(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalidArgument('invalid cache manifest: entries are no list');
  return value;
}
