import { createHash } from 'node:crypto';
import type { Digest } from '../base/digest.ts';
import type { CompressionType } from './ref.ts';

const OCI = 'application/vnd.oci.image.layer.v1.tar';
const OCI_FOREIGN = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
const DOCKER = 'application/vnd.docker.image.rootfs.diff.tar';
const DOCKER_FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar';

/** Compression that a layer's media type names, which of estargz is gzip; undefined for what is no layer (FEATURES F9). */
export function layerCompression(mediaType: string): Exclude<CompressionType, 'estargz'> | undefined {
  for (const base of [OCI, OCI_FOREIGN, DOCKER, DOCKER_FOREIGN]) {
    if (mediaType === base) return 'uncompressed';
    if (mediaType === `${base}+gzip` || mediaType === `${base}.gzip`) return 'gzip';
    if (mediaType === `${base}+zstd` || mediaType === `${base}.zstd`) return 'zstd';
  }
  return undefined;
}

/** OCI media type of a layer so compressed. */
export function layerMediaType(type: CompressionType): string {
  switch (type) {
    case 'uncompressed':
      return OCI;
    case 'gzip':
    case 'estargz':
      return `${OCI}+gzip`;
    case 'zstd':
      return `${OCI}+zstd`;
  }
}

/** The plain form of a non-distributable media type; others as they are. */
export function distributable(mediaType: string): string {
  return mediaType.replace(OCI_FOREIGN, OCI).replace(DOCKER_FOREIGN, DOCKER);
}

/** image-spec config.md: name of a stack of layers; `parent` is undefined for the lowest. */
export function chainId(parent: Digest | undefined, layer: Digest): Digest {
  if (parent === undefined) return layer;
  return `sha256:${createHash('sha256').update(`${parent} ${layer}`).digest('hex')}` as Digest;
}
