import { chmodSync, closeSync, constants, openSync, readlinkSync, symlinkSync } from 'node:fs';
import { copyFileData, lchown, lutimes, mknod } from './file.ts';
import { type FileStat, isRegularMode, isSymlinkMode, S_IFMT } from './stat.ts';
import { lsetxattr, readXattrs } from './xattr.ts';

// Copies between trees that are at rest and belong to us alone: names are read from them, no link is followed.

/** Makes `to` like the file `from`, which is no directory; owner, mode and times are still to be set. */
export function copyFile(from: string, to: string, stat: FileStat, onChunk: () => void): void {
  if (isSymlinkMode(stat.mode)) symlinkSync(readlinkSync(from), to);
  else if (isRegularMode(stat.mode)) {
    const source = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const target = openSync(to, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
      try {
        copyFileData(source, target, { onChunk });
      } finally {
        closeSync(target);
      }
    } finally {
      closeSync(source);
    }
  } else mknod(to, (stat.mode & S_IFMT) | 0o600, stat.rdevMajor, stat.rdevMinor);
}

/** Gives `to` owner, mode, attributes and times of `from`; `leaveOut` picks attributes that stay behind. */
export function copyMetadata(
  from: string,
  to: string,
  stat: FileStat,
  leaveOut: (xattr: string) => boolean = () => false,
): void {
  // A new owner clears file capabilities: attributes come after it.
  lchown(to, stat.uid, stat.gid);
  if (!isSymlinkMode(stat.mode)) chmodSync(to, stat.mode & 0o7777);
  for (const [name, value] of Object.entries(readXattrs(from) ?? {}))
    if (!leaveOut(name)) lsetxattr(to, name, value);
  lutimes(to, { sec: stat.atimeSec, nsec: stat.atimeNsec }, { sec: stat.mtimeSec, nsec: stat.mtimeNsec });
}
