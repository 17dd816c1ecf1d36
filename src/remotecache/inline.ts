import type { Digest } from '../base/digest.ts';
import { annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import type { Chains } from './chains.ts';
import { type ConfigRecord, encodeRecords } from './config.ts';
import { formatChains, resultBlobs } from './format.ts';
import { parseChains } from './parse.ts';

/**
 * The cache of one image, for its config: results made of the image's layers alone (FEATURES K9). undefined when
 * there are none.
 */
export function inlineCache(chains: Chains, image: readonly Digest[]): Uint8Array | undefined {
  const { config, layers } = formatChains(chains);
  const places = new Map<Digest, number>();
  const blobs = new Map<Digest, Descriptor>();
  for (const { descriptor } of layers) {
    const at = image.findLastIndex((layer) => isLayer(descriptor, layer));
    if (at < 0) continue;
    places.set(descriptor.digest, at);
    blobs.set(descriptor.digest, descriptor);
  }
  const own = formatChains(parseChains(config, blobs)).config;
  if (own.layers.length === 0) return undefined;
  const records = own.records.map((record): ConfigRecord => {
    const results: ConfigRecord['results'][number][] = [];
    const chained: ConfigRecord['chains'][number][] = [];
    for (const { layer, createdAt } of record.results) {
      const made = resultBlobs(own.layers, layer);
      // A result that is the lower part of the image is told by its top layer.
      if (made.every((blob, i) => isLayer(blobs.get(blob)!, image[i])))
        results.push({ layer: made.length - 1, createdAt });
      else chained.push({ layers: made.map((blob) => places.get(blob)!), createdAt });
    }
    return { ...record, results, chains: chained };
  });
  return encodeRecords(records);
}

/** The same layer in another compression counts, too. */
function isLayer({ digest, annotations }: Descriptor, layer: Digest | undefined): boolean {
  return layer !== undefined && (digest === layer || annotations?.[annotationUncompressed] === layer);
}
