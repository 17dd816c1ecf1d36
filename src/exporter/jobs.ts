import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import { readBlob } from '../archive/compression.ts';
import { TarReader } from '../archive/tar-reader.ts';
import type { Digest } from '../base/digest.ts';
import { basePath, cleanPath } from '../match/paths.ts';
import type { JobContext, Jobs } from '../pool/types.ts';
import { openRootfs } from '../sys/rootfs.ts';

const READ_BYTES = 256 << 10;

/** Digests of regular files below `dir`, in the order of `paths`. */
function fileDigests(
  { dir, paths }: { readonly dir: string; readonly paths: readonly string[] },
  context: JobContext,
): Digest[] {
  using root = openRootfs(dir);
  const buffer = Buffer.alloc(READ_BYTES);
  return paths.map((path) => {
    context.throwIfAborted();
    const hash = createHash('sha256');
    const fd = root.openFileNoFollow(path);
    try {
      for (let n = readSync(fd, buffer); n > 0; n = readSync(fd, buffer)) hash.update(buffer.subarray(0, n));
    } finally {
      closeSync(fd);
    }
    return `sha256:${hash.digest('hex')}` as Digest;
  });
}

const WHITEOUT = '.wh.';

/** Which of `wanted` (absolute, clean) the layer at `path` brings. */
async function filesInLayer(
  { path, wanted }: { readonly path: string; readonly wanted: readonly string[] },
  context: JobContext,
): Promise<string[]> {
  const left = new Set(wanted);
  const found: string[] = [];
  const reader = new TarReader({
    entry: ({ name }) => {
      const file = cleanPath(`/${name}`);
      if (!basePath(file).startsWith(WHITEOUT) && left.delete(file)) found.push(file);
    },
    data: () => {},
    end: () => {},
  });
  for await (const chunk of readBlob(path)) {
    context.throwIfAborted();
    reader.push(chunk);
    if (left.size === 0) return found;
  }
  reader.close();
  return found;
}

export const exporterJobs = { fileDigests, filesInLayer } satisfies Jobs;
export type ExporterJobs = typeof exporterJobs;
