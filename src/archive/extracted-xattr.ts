import { BuildError, errno } from '../base/errors.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import { isDirMode, isRegularMode } from '../sys/stat.ts';

/** Attributes that the file system cannot keep are left out, as are `user.` ones of special files. */
export function setXattr(root: Rootfs, path: string, name: string, value: Uint8Array): void {
  try {
    root.setXattr(path, name, value);
  } catch (error) {
    const code = errno(error);
    if (code === 'EOPNOTSUPP' || code === 'ENOTSUP') return;
    const { mode } = root.lstat(path);
    if (code === 'EPERM' && name.startsWith('user.') && !isRegularMode(mode) && !isDirMode(mode)) return;
    throw BuildError.wrap(
      error,
      `failed to setxattr ${JSON.stringify(path)} for key ${JSON.stringify(name)}`,
    );
  }
}
