import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { digestAlgorithm, digestHex, isDigest } from '../base/digest.ts';
import { BuildError, errno } from '../base/errors.ts';
import { readLayoutIndex } from './index-file.ts';

/** Manifests are small; a larger blob is none. */
const MAX_MANIFEST_BYTES = 4 << 20;

/**
 * Deletes the blobs of a layout folder that no entry of its index leads to.
 * @throws BuildError when the index cannot be read; then nothing is deleted
 */
export async function removeUnreferenced(dir: string): Promise<void> {
  const blobs = join(dir, 'blobs');
  const seen = new Set<string>();
  const open: { digest: string; isRoot: boolean }[] = readLayoutIndex(dir).map(({ digest }) => ({
    digest,
    isRoot: true,
  }));
  for (let next = open.pop(); next; next = open.pop()) {
    const { digest, isRoot } = next;
    if (seen.has(digest) || !isDigest(digest)) continue;
    seen.add(digest);
    const path = join(blobs, digestAlgorithm(digest), digestHex(digest));
    for (const child of childrenOf(path, isRoot)) open.push({ digest: child, isRoot: false });
  }
  for (const algorithm of names(blobs))
    for (const hex of names(join(blobs, algorithm)))
      if (!seen.has(`${algorithm}:${hex}`)) rmSync(join(blobs, algorithm, hex), { force: true });
}

/** What a manifest or index names; nothing for any other blob. A root that cannot be read is an error. */
function childrenOf(path: string, isRoot: boolean): string[] {
  let text: string;
  try {
    if (statSync(path).size > MAX_MANIFEST_BYTES) return [];
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (!isRoot && errno(error) === 'ENOENT') return [];
    throw BuildError.wrap(error, 'reset: failed to collect referenced blobs');
  }
  let fields: { config?: unknown; layers?: unknown; manifests?: unknown } | null;
  try {
    fields = JSON.parse(text);
  } catch {
    return []; // a layer or a config
  }
  const lists = [fields?.config ? [fields.config] : [], fields?.layers, fields?.manifests];
  return lists
    .filter((list) => Array.isArray(list))
    .flat()
    .map((entry: { digest?: unknown } | null) => entry?.digest)
    .filter((digest) => typeof digest === 'string');
}

function names(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (errno(error) === 'ENOENT' || errno(error) === 'ENOTDIR') return [];
    throw error;
  }
}
