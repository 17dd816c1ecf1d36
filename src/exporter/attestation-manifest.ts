import { type Digest, digestOf } from '../base/digest.ts';
import { goJson } from '../base/gojson.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { encodeManifest } from '../oci/manifest.ts';
import {
  mediaTypeInToto,
  mediaTypeOciConfig,
  mediaTypeOciEmpty,
  mediaTypeOciManifest,
} from '../oci/media-types.ts';

const ARTIFACT_TYPE = 'application/vnd.docker.attestation.manifest.v1+json';
export const PREDICATE_TYPE = 'in-toto.io/predicate-type';
const REFERENCE_TYPE = 'vnd.docker.reference.type';
const REFERENCE_DIGEST = 'vnd.docker.reference.digest';
const EMPTY = Buffer.from('{}');
/** Of what can not be run. */
const NO_PLATFORM = { architecture: 'unknown', os: 'unknown' };

/** A statement and its predicate's type. */
export interface Statement {
  readonly predicateType: string;
  readonly data: Uint8Array;
}

export interface AttestationManifest {
  readonly manifest: Uint8Array;
  /** Its entry in the index of the image. */
  readonly descriptor: Descriptor;
  /** Statements and config. */
  readonly blobs: readonly Uint8Array[];
  readonly children: readonly Descriptor[];
}

/** The manifest of statements about `target`: as an artifact, or in the form of an image (FEATURES J33). */
export function attestationManifest(
  target: Descriptor,
  statements: readonly Statement[],
  { artifact }: { readonly artifact: boolean },
): AttestationManifest {
  const layers = statements.map(({ predicateType, data }) => ({
    mediaType: mediaTypeInToto,
    digest: digestOf(data),
    size: data.length,
    annotations: { [PREDICATE_TYPE]: predicateType },
  }));
  const configData = artifact ? EMPTY : imageConfig(layers.map(({ digest }) => digest));
  const config: Descriptor = {
    mediaType: artifact ? mediaTypeOciEmpty : mediaTypeOciConfig,
    digest: digestOf(configData),
    size: configData.length,
    ...(artifact ? { data: configData } : {}),
  };
  const { mediaType, digest, size } = target;
  const manifest = encodeManifest({
    kind: 'manifest',
    mediaType: mediaTypeOciManifest,
    config,
    layers,
    ...(artifact ? { artifactType: ARTIFACT_TYPE, subject: { mediaType, digest, size } } : {}),
  });
  return {
    manifest,
    descriptor: {
      mediaType: mediaTypeOciManifest,
      digest: digestOf(manifest),
      size: manifest.length,
      annotations: { [REFERENCE_TYPE]: 'attestation-manifest', [REFERENCE_DIGEST]: digest },
      platform: NO_PLATFORM,
    },
    blobs: [...statements.map(({ data }) => data), configData],
    children: [config, ...layers],
  };
}

function imageConfig(diffIds: readonly Digest[]): Uint8Array {
  const rootfs = { type: 'layers', diff_ids: diffIds.length ? diffIds : null };
  return Buffer.from(goJson({ ...NO_PLATFORM, config: {}, rootfs }));
}
