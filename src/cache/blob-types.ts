import { findToc } from '../archive/estargz-footer.ts';
import type { Digest } from '../base/digest.ts';
import { notFound } from '../base/errors.ts';
import { annotationTocDigest, annotationUncompressedSize } from '../oci/descriptor.ts';
import type { ContentStore } from '../store/content.ts';
import { layerCompression } from './compression.ts';
import type { CompressionType } from './ref.ts';

/** Labels of layer blobs, for those that have only a digest (FEATURES F8). */
export const LABEL_MEDIA_TYPE = 'buildkit.io/blob/mediatype';
/** `true` or `false`: what was found out of a blob stays true. */
export const LABEL_ESTARGZ = 'buildkit.io/compression/estargz';
const LABEL_ANNOTATION = 'buildkit.io/blob/annotation.';

/** Annotations that belong to a blob's bytes and go wherever they go. */
const BLOB_ANNOTATIONS = [annotationTocDigest, annotationUncompressedSize];

/** Those of `annotations` that belong to the blob. */
export function blobAnnotations(annotations: Readonly<Record<string, string>> = {}): Record<string, string> {
  const own = BLOB_ANNOTATIONS.filter((key) => annotations[key] !== undefined);
  return Object.fromEntries(own.map((key) => [key, annotations[key]!]));
}

/** A blob's annotations as its labels. */
export function annotationLabels(annotations: Readonly<Record<string, string>>): Record<string, string> {
  const own = Object.entries(blobAnnotations(annotations));
  return Object.fromEntries(own.map(([key, value]) => [LABEL_ANNOTATION + key, value]));
}

/** The opposite of `annotationLabels`. */
export function annotationsIn(labels: Readonly<Record<string, string>>): Record<string, string> {
  const own = Object.entries(labels).filter(([key]) => key.startsWith(LABEL_ANNOTATION));
  return Object.fromEntries(own.map(([key, value]) => [key.slice(LABEL_ANNOTATION.length), value]));
}

/** Compression of a blob that is a form of another. */
export function labelledType(labels: Readonly<Record<string, string>>): CompressionType | undefined {
  const type = layerCompression(labels[LABEL_MEDIA_TYPE] ?? '');
  return type === 'gzip' && labels[LABEL_ESTARGZ] === 'true' ? 'estargz' : type;
}

/**
 * Compression of a record's blob; undefined when it is no layer's. The media type of estargz is that of gzip: a look
 * at the blob tells, once, and of one that is not here what its annotations say.
 */
export function recordType(
  row: { readonly blob: Digest | null; readonly media_type: string | null; readonly annotations: string },
  content: ContentStore,
): CompressionType | undefined {
  const type = layerCompression(row.media_type ?? '');
  if (type !== 'gzip') return type;
  if (row.blob === null) throw notFound('no blobs for snapshot');
  const info = content.info(row.blob);
  if (!info) return annotationTocDigest in JSON.parse(row.annotations) ? 'estargz' : 'gzip';
  let known = info.labels[LABEL_ESTARGZ];
  if (known === undefined) {
    known = String(findToc(content.path(row.blob)) !== undefined);
    content.updateLabels(row.blob, { [LABEL_ESTARGZ]: known });
  }
  return known === 'true' ? 'estargz' : 'gzip';
}
