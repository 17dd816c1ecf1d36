import type { Digest } from '../base/digest.ts';
import type { Platform } from './platform.ts';

/** OCI content descriptor (image-spec descriptor.md). `size` in bytes. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  /** The content itself, where it is that small. */
  readonly data?: Uint8Array;
  readonly platform?: Platform;
  readonly artifactType?: string;
}

/** Annotations that travel with layer descriptors inside the daemon (FEATURES J31). */
export const annotationUncompressed = 'containerd.io/uncompressed';
/** When the step was run, RFC 3339. */
export const annotationCreatedAt = 'buildkit/createdat';
/** SOURCE_DATE_EPOCH that the files of a layer were held to. */
export const annotationRewritten = 'buildkit/rewritten-timestamp';
/** What made the layer, for people. */
export const annotationDescription = 'buildkit/description';
/** Of an eStargz layer: digest of its table of contents (FEATURES J31). */
export const annotationTocDigest = 'containerd.io/snapshot/stargz/toc.digest';
/** Of an eStargz layer: how many bytes it unpacks to. */
export const annotationUncompressedSize = 'io.containers.estargz.uncompressed-size';
/** With `.<host>` behind it: repositories of that registry that hold the blob, with commas between them. */
export const annotationDistributionSource = 'containerd.io/distribution.source';
