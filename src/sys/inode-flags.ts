import { closeSync, constants, openSync } from 'node:fs';
import { cfunc } from './ffi.ts';

const ioctlCall = cfunc<[number, number, Int32Array]>('ioctl', 'int', ['int', 'ulong', 'void *']);
// linux/fs.h; the argument is an int, whatever the header says (ioctl_iflags(2)).
const FS_IOC_GETFLAGS = 0x8008_6601;
const FS_IOC_SETFLAGS = 0x4008_6602;
const FS_TOPDIR_FL = 0x0002_0000;

/**
 * Tells ext4 that the directories below this one have nothing to do with each other, so that it spreads them over the
 * disk (chattr(1), attribute T). Otherwise a new one gets its inodes beside those that were just deleted with an old
 * one, and ext4 passes over each of these anew for every file that is made: it does not use them again for minutes.
 * @returns whether the file system has such a hint
 */
export function spreadSubdirectories(dir: string): boolean {
  const fd = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const flags = new Int32Array(2);
    if (ioctlCall(fd, FS_IOC_GETFLAGS, flags) !== 0) return false;
    if ((flags[0]! & FS_TOPDIR_FL) !== 0) return true;
    flags[0]! |= FS_TOPDIR_FL;
    return ioctlCall(fd, FS_IOC_SETFLAGS, flags) === 0;
  } finally {
    closeSync(fd);
  }
}
