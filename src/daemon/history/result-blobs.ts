import type { Digest } from '../../base/digest.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { MAX_MANIFEST_BYTES, parseManifest } from '../../oci/manifest.ts';
import { isIndexType, isManifestType } from '../../oci/media-types.ts';
import type { ContentStore } from '../../store/content.ts';

const STATEMENT_TYPE = 'application/vnd.in-toto+json';

/**
 * Digests of what a record keeps of an image: its documents and attestations, and none of its layers. What is
 * not there, as manifests of other platforms, is left out.
 */
export async function documentsOf(image: Descriptor, content: ContentStore): Promise<Set<Digest>> {
  const found = new Set<Digest>();
  const visit = async ({ digest, mediaType }: Descriptor): Promise<void> => {
    if (found.has(digest) || !content.has(digest)) return;
    found.add(digest);
    if (!isIndexType(mediaType) && !isManifestType(mediaType)) return;
    const document = parseManifest(
      await content.readAll(digest, { maxBytes: MAX_MANIFEST_BYTES }),
      mediaType,
    );
    if (document.kind === 'index') for (const manifest of document.manifests) await visit(manifest);
    else
      for (const blob of [document.config, ...document.layers])
        if (blob === document.config || blob.mediaType === STATEMENT_TYPE) await visit(blob);
  };
  await visit(image);
  return found;
}
