import { dirPath } from '../match/paths.ts';
import type { JobContext } from '../pool/types.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { isDirMode } from '../sys/stat.ts';
import { setXattr } from './extracted-xattr.ts';
import { findBelow, isWhiteout } from './view.ts';

/**
 * What of an unpacked layer depends on those below it, which may come later. Paths are relative to the layer and
 * without links.
 */
export interface Unsettled {
  /** Directories that the archive does not list: they were made for the entries in them. */
  readonly dirs: readonly string[];
  /** Marks of overlayfs that hide a name, needed or not. */
  readonly marks: readonly string[];
}

export interface SettleLayerInput {
  /** The directory that the layer was unpacked into. */
  readonly target: string;
  /** Trees below, top first. */
  readonly parents: readonly string[];
  readonly unsettled: Unsettled;
}

/** Ends what `applyLayer` has begun ahead of the layers below. */
export function settleLayer(input: SettleLayerInput, context: JobContext): void {
  using target = openRootfs(input.target);
  for (const path of input.unsettled.marks) {
    context.throwIfAborted();
    // Later entries may have put something else in the place of its directory.
    if (!standsInDirectory(target, path)) continue;
    if (findBelow(input.target, input.parents, path) === undefined) unmark(target, path);
  }
  using below = new DisposableStack();
  const parents = input.parents.map((dir) => below.use(openRootfs(dir)));
  for (const path of input.unsettled.dirs) {
    context.throwIfAborted();
    if (standsInDirectory(target, `${path}/.`)) copyDir(parents, target, path);
  }
}

/** Whether all above the last part are directories, none of them reached through a link. */
function standsInDirectory(target: Rootfs, path: string): boolean {
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1))
    if (!isDirMode(target.lstatOrNone(path.slice(0, slash))?.mode ?? 0)) return false;
  return true;
}

/** In a directory that is this layer's alone overlayfs would list the mark. */
function unmark(target: Rootfs, path: string): void {
  const mark = target.lstatOrNone(path);
  if (!mark || !isWhiteout(mark)) return; // the layer has put something else there since
  const dir = dirPath(path);
  const { atimeSec, atimeNsec, mtimeSec, mtimeNsec } = target.lstat(dir);
  target.removeAll(path);
  target.utimes(dir, { sec: atimeSec, nsec: atimeNsec }, { sec: mtimeSec, nsec: mtimeNsec });
}

/** Gives a directory what the same one below has. */
function copyDir(parents: readonly Rootfs[], target: Rootfs, path: string): void {
  for (const parent of parents) {
    const stat = parent.lstatOrNone(path);
    if (!stat) continue;
    if (!isDirMode(stat.mode)) return;
    target.lchown(path, stat.uid, stat.gid);
    target.chmod(path, stat.mode);
    for (const [name, value] of Object.entries(parent.readXattrs(path) ?? {}))
      if (!name.startsWith('trusted.overlay.')) setXattr(target, path, name, value);
    const time = { sec: stat.mtimeSec, nsec: stat.mtimeNsec };
    target.utimes(path, time, time);
    return;
  }
}
