import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import type { Digest } from '../base/digest.ts';
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

export const hashJobs = { fileDigests } satisfies Jobs;
export type HashJobs = typeof hashJobs;
