import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import {
  annotationCreatedAt,
  annotationDescription,
  annotationUncompressed,
  type Descriptor,
} from '../oci/descriptor.ts';
import { INLINE_CACHE_KEY, parseImageConfig } from '../oci/image-config.ts';
import { type Manifest, MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.ts';
import type { Chains } from './chains.ts';
import { decodeRecords } from './config.ts';
import type { CacheOrigin } from './import.ts';
import { MAX_CACHE_BLOB_BYTES } from './limits.ts';
import { parseChains } from './parse.ts';

/** Manifests below one reference that are looked at; each is as large as a cache's own may be. */
const MAX_MANIFESTS = 100;

/** Caches that the images below a manifest or index carry in their configs (FEATURES K9). */
export async function readInline(
  origin: CacheOrigin,
  root: Uint8Array,
  signal: AbortSignal,
): Promise<Chains[]> {
  const images = new Map<Digest, Manifest>();
  await collect(origin, root, images, signal);
  const found = await Promise.all([...images.values()].map((image) => readImage(origin, image, signal)));
  return found.filter((chains) => chains !== undefined);
}

async function collect(
  origin: CacheOrigin,
  data: Uint8Array,
  images: Map<Digest, Manifest>,
  signal: AbortSignal,
): Promise<void> {
  const seen = new Set<Digest>();
  const open = [data];
  for (let next = open.pop(); next; next = open.pop()) {
    const manifest = parseManifest(next, '');
    if (manifest.kind === 'manifest') {
      images.set(digestOf(next), manifest);
      continue;
    }
    for (const child of manifest.manifests) {
      if (seen.has(child.digest)) continue;
      seen.add(child.digest);
      if (seen.size > MAX_MANIFESTS)
        throw new BuildError(`more than ${MAX_MANIFESTS} manifests below one reference`, {
          code: Code.resourceExhausted,
        });
      open.push(await origin.fetchAll(child, MAX_CACHE_BLOB_BYTES, signal));
    }
  }
}

/** undefined for an image that carries none, and for what is no image. */
async function readImage(
  origin: CacheOrigin,
  { config, layers }: Manifest,
  signal: AbortSignal,
): Promise<Chains | undefined> {
  if (layers.length === 0) return undefined;
  const json = await origin.fetchAll(config, MAX_MANIFEST_BYTES, signal);
  const records = inlineRecords(json);
  if (!records) return undefined;
  const { diffIds, history } = parseImageConfig(json);
  if (diffIds.length !== layers.length) return undefined;
  const made = history.filter((entry) => !entry.emptyLayer);
  const blobs = new Map<Digest, Descriptor>();
  for (const [i, layer] of layers.entries()) {
    const created = made[i]?.created?.text;
    const description = made[i]?.createdBy;
    const annotations = {
      ...layer.annotations,
      ...(created === undefined ? {} : { [annotationCreatedAt]: created }),
      ...(description === undefined ? {} : { [annotationDescription]: description }),
      [annotationUncompressed]: diffIds[i]!,
    };
    blobs.set(layer.digest, origin.locate?.({ ...layer, annotations }) ?? { ...layer, annotations });
  }
  const table = layers.map(({ digest }, i) => ({ blob: digest, parent: i - 1 }));
  return parseChains({ layers: table, records }, blobs);
}

function inlineRecords(json: Uint8Array): ReturnType<typeof decodeRecords> | undefined {
  let fields: Record<string, unknown> | null;
  try {
    fields = JSON.parse(Buffer.from(json).toString());
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse image config');
  }
  const text = fields?.[INLINE_CACHE_KEY];
  return typeof text === 'string' ? decodeRecords(Buffer.from(text, 'base64')) : undefined;
}
