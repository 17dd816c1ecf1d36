import { invalidArgument } from '../../base/errors.ts';
import type { OfferedDirectory } from '../../session/host/filesync.ts';
import { directorySource } from '../../session/fsutil/source.ts';
import { fileType, type FsStat, goMode, PERMISSIONS, unixPermissions } from '../../session/fsutil/stat.ts';
import type { LocalFolder } from './types.ts';

/** Offers parts of a folder (FEATURES N5). */
export function localFolder({ dir, map, ...filter }: LocalFolder): OfferedDirectory {
  if (typeof dir !== 'string') throw invalidArgument('a folder of locals has neither dir nor files');
  const within = { ...filter, ...(map ? { change: changer(map) } : {}) };
  return (asked) => directorySource(dir, { ...asked, within });
}

function changer(map: NonNullable<LocalFolder['map']>): (stat: FsStat) => boolean {
  return (stat) => {
    const { path, mode, size, modTime } = stat;
    const said = map({ path, type: fileType(mode), mode: unixPermissions(mode), size, modTime });
    if (typeof said === 'boolean') return said;
    if (said.mode !== undefined) stat.mode = ((mode & ~PERMISSIONS) | goMode(said.mode)) >>> 0;
    if (said.modTime !== undefined) stat.modTime = said.modTime;
    return true;
  };
}
