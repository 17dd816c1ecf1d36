import { linkSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { errno } from '../base/errors.ts';
import { basePath, dirPath } from '../match/paths.ts';
import type { JobContext } from '../pool/types.ts';
import { copyFile, copyMetadata } from '../sys/copy.ts';
import { lutimes, mknod } from '../sys/file.ts';
import { type FileStat, inodeKey, isDirMode, lstat, lstatOrNone } from '../sys/stat.ts';
import { S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK } from '../sys/stat.ts';
import { llistxattr, lsetxattr } from '../sys/xattr.ts';
import { OPAQUE_XATTR } from './apply.ts';
import { type Change, overlayChanges, viewChanges } from './changes.ts';
import { findBelow, lookUp, type ViewEntry, type ViewRules } from './view.ts';

/** What leads from one tree to another. Directories, as their places in the list of all, top first. */
export interface NumberedDiff {
  readonly lower: readonly number[];
  readonly upper: readonly number[];
}

export interface MergeTreesInput {
  /** Directory to fill: the upper directory of an overlay, or a tree of its own. */
  readonly target: string;
  /** Directories below the target, top first; what is to go from them gets overlay marks. */
  readonly below: readonly string[];
  readonly diffs: readonly NumberedDiff[];
  /** Of all trees. */
  readonly dirs: readonly string[];
  /** The directories are layers of overlays; else each tree is at most one directory. */
  readonly overlay: boolean;
}

/** Space that the target takes for itself, without files it shares with the trees it was made from. */
export interface MergeTreesResult {
  readonly size: number;
  readonly inodes: number;
}

/**
 * Applies differences one after the other (FEATURES F6), as if each had been packed into a layer and unpacked
 * again, but with hard links to the files instead of copies. All trees are snapshots at rest that only we write.
 */
export function mergeTrees(input: MergeTreesInput, context: JobContext): MergeTreesResult {
  const merger = new TreeMerger(input, context);
  const named = (dirs: readonly number[]): string[] => dirs.map((i) => input.dirs[i]!);
  for (const { lower, upper } of input.diffs)
    merger.apply({ lower: named(lower), upper: named(upper), overlay: input.overlay });
  return merger.finish();
}

interface TreeDiff {
  readonly lower: readonly string[];
  readonly upper: readonly string[];
  readonly overlay: boolean;
}

const OVERLAY: ViewRules = { overlay: true };
const PLAIN: ViewRules = { overlay: false };
/** A link is not possible here: between file systems, too many of one file, not allowed, not known. */
const NO_LINK = new Set(['EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP', 'EOPNOTSUPP']);

class TreeMerger {
  readonly #target: string;
  readonly #below: readonly string[];
  readonly #context: JobContext;
  /** Times that directories get when nothing is written to them any more. */
  readonly #dirTimes = new Map<string, FileStat>();
  /** Inodes that belong to the trees merged from. */
  readonly #foreign = new Set<string>();
  /** Of the difference at hand: directories that are up to date, and where files with several names went. */
  #dirs = new Map<string, ViewEntry>();
  #names = new Map<string, string>();

  constructor(input: MergeTreesInput, context: JobContext) {
    this.#target = input.target;
    this.#below = input.below;
    this.#context = context;
  }

  apply(diff: TreeDiff): void {
    this.#dirs = new Map();
    this.#names = new Map();
    for (const change of changesOf(diff)) {
      this.#context.throwIfAborted();
      if (change.kind === 'unmodified') continue;
      this.#makeParents(change.path, diff);
      if (change.kind === 'delete') this.#delete(change.path);
      else this.#put(change.path, change.entry);
    }
  }

  /** Sets the times of directories and measures the target. */
  finish(): MergeTreesResult {
    const seen = new Set<string>();
    let size = 0;
    let inodes = 0;
    const visit = (path: string): void => {
      this.#context.throwIfAborted();
      const full = this.#full(path);
      const stat = lstat(full);
      if (!isDirMode(stat.mode)) {
        const key = stat.nlink > 1 ? inodeKey(stat) : undefined;
        if (key !== undefined && (this.#foreign.has(key) || seen.has(key))) return;
        if (key !== undefined) seen.add(key);
      } else {
        for (const name of readdirSync(full)) visit(path === '' ? name : `${path}/${name}`);
        const times = this.#dirTimes.get(path);
        // A path that was a directory once may be anything by now: only those found here are set.
        if (times) lutimes(full, undefined, { sec: times.mtimeSec, nsec: times.mtimeNsec });
      }
      size += stat.blocks * 512;
      inodes++;
    };
    visit('');
    return { size, inodes };
  }

  #full(path: string): string {
    return path === '' ? this.#target : `${this.#target}/${path}`;
  }

  /** A layer brings the directories above what it changes, also above what it only deletes. */
  #makeParents(path: string, diff: TreeDiff): void {
    const parent = dirPath(path);
    if (parent === '.' || this.#dirs.has(parent)) return;
    this.#makeParents(parent, diff);
    const above = dirPath(parent);
    const dirs = above === '.' ? diff.upper : (this.#dirs.get(above)?.dirs ?? []);
    const entry = lookUp(dirs, basePath(parent), diff.overlay ? OVERLAY : PLAIN);
    if (entry) this.#put(parent, entry);
  }

  #delete(path: string): void {
    const full = this.#full(path);
    rmSync(full, { recursive: true, force: true });
    if (this.#findBelow(path)) mknod(full, S_IFCHR, 0, 0);
  }

  #put(path: string, entry: ViewEntry): void {
    const full = this.#full(path);
    const directory = isDirMode(entry.stat.mode);
    const before = lstatOrNone(full);
    const merges = before && directory && isDirMode(before.mode);
    if (before && !merges) rmSync(full, { recursive: true, force: true });
    if (!directory) {
      if (this.#link(path, entry)) return;
      copyFile(entry.path, full, entry.stat, () => this.#context.throwIfAborted());
    } else {
      if (!merges) mkdirSync(full, 0o700);
      this.#dirs.set(path, entry);
      this.#dirTimes.set(path, entry.stat);
    }
    copyMetadata(entry.path, full, entry.stat, isOverlayMark);
    // What stood here hid the directory of the same name below, and so must the new one.
    if (directory && before && !merges && (this.#findBelow(path)?.dirs.length ?? 0) > 0)
      lsetxattr(full, OPAQUE_XATTR, Buffer.from('y'));
  }

  /**
   * Makes the file another name of one that is there: of itself when this difference brought it already, else of
   * the file it comes from. FIFOs and sockets would connect processes of different trees.
   */
  #link(path: string, { path: source, stat }: ViewEntry): boolean {
    const type = stat.mode & S_IFMT;
    if (type === S_IFIFO || type === S_IFSOCK) return false;
    const key = inodeKey(stat);
    const first = stat.nlink > 1 ? this.#names.get(key) : undefined;
    if (first === undefined) this.#names.set(key, path);
    // Without layers below, the target is no overlay that would hide the marks of the file.
    if (first === undefined && this.#below.length === 0 && llistxattr(source).some(isOverlayMark))
      return false;
    try {
      linkSync(first === undefined ? source : this.#full(first), this.#full(path));
    } catch (error) {
      if (!NO_LINK.has(errno(error) ?? '')) throw error;
      return false;
    }
    if (first === undefined) this.#foreign.add(key);
    return true;
  }

  #findBelow(path: string): ViewEntry | undefined {
    return findBelow(this.#target, this.#below, path);
  }
}

function changesOf({ lower, upper, overlay }: TreeDiff): Generator<Change, void, void> {
  const stands = overlay && lower.length > 0 && upper.length === lower.length + 1;
  // The upper tree is one layer on the lower one: that layer is the difference.
  if (stands && lower.every((dir, i) => dir === upper[i + 1])) return overlayChanges(lower, upper[0]!);
  return viewChanges(lower, upper, overlay ? OVERLAY : PLAIN);
}

/** The target gets marks where it needs them; those of the source say nothing of it. */
function isOverlayMark(xattr: string): boolean {
  return xattr.startsWith('trusted.overlay.') || xattr === 'user.overlay.opaque';
}
