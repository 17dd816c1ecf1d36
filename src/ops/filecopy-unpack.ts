import { closeSync } from 'node:fs';
import { isArchive, unpackTo } from '../archive/unpack.ts';
import type { JobContext } from '../pool/types.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { isRegularMode } from '../sys/stat.ts';
import type { Owner } from './filecopy-owner.ts';
import { followPath } from './filecopy-path.ts';
import type { TreeCopier } from './filecopy-tree.ts';

export interface UnpackRequest {
  readonly source: Rootfs;
  readonly path: string;
  readonly target: Rootfs;
  readonly dest: string;
  readonly owner: Owner | undefined;
  readonly copier: TreeCopier;
  readonly context: JobContext;
}

/**
 * Unpacks a tar archive, plain or packed with gzip, bzip2, xz or zstd, into the directory `dest` (FEATURES H46); false
 * when the source is no archive. Links in the archive stay inside `dest`.
 */
export async function unpackArchive(request: UnpackRequest): Promise<boolean> {
  const { source, path, target, owner } = request;
  const real = followPath(source, path);
  const stat = source.lstatOrNone(real);
  if (!stat || !isRegularMode(stat.mode)) return false;
  const fd = source.openFile(real);
  try {
    // Opened below the root; read again by the same descriptor.
    const file = `/proc/self/fd/${fd}`;
    if (!(await isArchive(file))) return false;
    const dest = followPath(target, request.dest);
    request.copier.makeDirectories(dest, UNPACK_MODE);
    using root = openRootfs(target.procPath(dest));
    await unpackTo(file, root, owner, request.context);
    return true;
  } finally {
    closeSync(fd);
  }
}

const UNPACK_MODE = 0o755;
