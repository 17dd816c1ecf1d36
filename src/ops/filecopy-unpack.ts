import { closeSync, readSync } from 'node:fs';
import { BuildError, Code } from '../base/errors.ts';
import type { JobContext } from '../pool/types.ts';
import type { FileTime } from '../sys/file.ts';
import type { Rootfs } from '../sys/rootfs.ts';
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
  readonly time: FileTime | undefined;
  readonly copier: TreeCopier;
  readonly context: JobContext;
}

const MAGIC: readonly (readonly [string, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b, 0x08]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
];

/** Unpacks a tar archive into `dest` (FEATURES H46); false when the source is no archive. */
export function unpackArchive(request: UnpackRequest): boolean {
  const { source, path } = request;
  const real = followPath(source, path);
  const stat = source.lstatOrNone(real);
  if (!stat || !isRegularMode(stat.mode)) return false;
  const head = Buffer.alloc(512);
  const fd = source.openFile(real);
  try {
    const length = readSync(fd, head, 0, head.length, 0);
    const kind = kindOf(head.subarray(0, length));
    if (kind === undefined) return false;
    throw new BuildError(`unpacking ${kind} archive ${path}: not supported yet`, {
      code: Code.unimplemented,
    });
  } finally {
    closeSync(fd);
  }
}

function kindOf(head: Uint8Array): string | undefined {
  const packed = MAGIC.find(([, magic]) => magic.every((byte, i) => head[i] === byte));
  if (packed) return packed[0];
  return Buffer.from(head.subarray(257, 262)).toString('latin1') === 'ustar' ? 'tar' : undefined;
}
