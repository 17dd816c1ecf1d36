import { closeSync } from 'node:fs';
import { posix } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { type MatchInfo, PatternMatcher } from '../match/patterns.ts';
import { type CopyWays, type FileTime, copyFileData } from '../sys/file.ts';
import type { Rootfs } from '../sys/rootfs.ts';
import { type FileStat, inodeKey, isDirMode, isRegularMode, isSymlinkMode } from '../sys/stat.ts';
import { S_IFMT, S_IFREG, S_IFSOCK } from '../sys/stat.ts';
import { followParents, followPath, naming } from './filecopy-path.ts';
import type { ModeChange } from './filecopy-mode.ts';
import type { Owner } from './filecopy-owner.ts';

const DEFAULT_DIRECTORY_MODE = 0o755;
const MODE_BITS = 0o7777;

export interface CopyOptions {
  readonly owner: Owner | undefined;
  readonly time: FileTime | undefined;
  /** Octal mode for everything copied. */
  readonly mode: number | undefined;
  readonly modeChange: ModeChange | undefined;
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  readonly copyDirContents: boolean;
  readonly followLinks: boolean;
  readonly replaceExisting: boolean;
  readonly throwIfAborted: () => void;
}

/** Where an entry goes. */
interface Target {
  readonly path: string;
  /** In a directory that this copy has made: nothing can be there. */
  readonly fresh: boolean;
  readonly overwrite: boolean;
}

/** A directory on the way down that is made when something below it is copied. */
interface OpenDirectory {
  readonly from: string;
  readonly to: string;
  copied: boolean;
}

/** Copies trees as `cp -a` does, within two roots. */
export class TreeCopier {
  readonly #source: Rootfs;
  readonly #target: Rootfs;
  readonly #options: CopyOptions;
  readonly #include: PatternMatcher | undefined;
  readonly #exclude: PatternMatcher | undefined;
  readonly #links = new Map<string, string>();
  readonly #open: OpenDirectory[] = [];
  readonly #ways: CopyWays = { clone: true, range: true };

  constructor(source: Rootfs, target: Rootfs, options: CopyOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    if (options.includePatterns.length > 0) this.#include = new PatternMatcher(options.includePatterns);
    if (options.excludePatterns.length > 0) this.#exclude = new PatternMatcher(options.excludePatterns);
  }

  /** Copies `src` to `dest`, into it when it is a directory that the source is not merged with. */
  copy(src: string, dest: string): void {
    // Links are kept within what one source names, not among several.
    this.#links.clear();
    const parent = /(^|\/)\.?$/.test(dest) ? dest : posix.dirname(dest);
    const made = this.makeDirectories(followPath(this.#target, parent));
    const from = this.#options.followLinks ? followPath(this.#source, src) : followParents(this.#source, src);
    const to = this.#placeFor(from, src, followPath(this.#target, posix.normalize(dest)), made);
    this.#copyEntry(from, '', { path: to, fresh: false, overwrite: false }, undefined, undefined);
    this.#setTimes(made);
  }

  /** Missing directories down to `path`, with the options' owner, mode and time; what was made, parents first. */
  makeDirectories(path: string, mode = this.#options.mode ?? DEFAULT_DIRECTORY_MODE): string[] {
    const made: string[] = [];
    // Directories on the way never get set-id or sticky bits.
    this.#target.mkdirAll(path, mode & 0o777, (dir) => made.push(dir));
    const { owner, time } = this.#options;
    for (const dir of made) {
      if (owner) this.#target.lchown(dir, owner.uid, owner.gid);
      if (time) this.#target.utimes(dir, time, time);
    }
    return made;
  }

  #setTimes(dirs: readonly string[]): void {
    const { time } = this.#options;
    if (time) for (const dir of [...dirs].reverse()) this.#target.utimes(dir, time, time);
  }

  #placeFor(from: string, src: string, dest: string, made: string[]): string {
    const { copyDirContents } = this.#options;
    const sourceIsDir = isDirMode(naming('lstat', from, () => this.#source.lstat(from)).mode);
    const existing = this.#target.lstatOrNone(dest);
    const into = existing !== undefined && isDirMode(existing.mode);
    const place =
      (sourceIsDir && !copyDirContents && existing !== undefined) || (!sourceIsDir && into)
        ? posix.join(dest, posix.basename(src))
        : dest;
    const merged = copyDirContents && sourceIsDir && existing === undefined;
    made.push(...this.makeDirectories(merged ? place : posix.dirname(place)));
    return place;
  }

  /** `inside` is the path below the copied directory, '' for itself. */
  #copyEntry(
    from: string,
    inside: string,
    target: Target,
    includeInfo: MatchInfo | undefined,
    excludeInfo: MatchInfo | undefined,
  ): void {
    const to = target.path;
    this.#options.throwIfAborted();
    const wanted = this.#select(inside, includeInfo, excludeInfo);
    if (!wanted.include && !this.#include && !this.#exclude?.hasExclusions) return;
    const stat = this.#source.lstat(from);
    const isDir = isDirMode(stat.mode);
    if (!wanted.include && !isDir) return;
    if (wanted.include) {
      if (!target.fresh) this.#clear(to, isDir);
      this.#makeOpenDirectories(target.overwrite);
    }
    if (isDir) {
      this.#copyDirectory(from, inside, target, stat, wanted);
      return;
    }
    this.#copyNode(from, to, stat);
    this.#copyAttributes(from, to, stat);
  }

  #select(inside: string, includeInfo: MatchInfo | undefined, excludeInfo: MatchInfo | undefined): Selection {
    if (inside === '') return { include: true, excluded: false, includeInfo: [], excludeInfo: [] };
    const included = this.#include?.matchesUsingParentResults(inside, includeInfo);
    const excluded = this.#exclude?.matchesUsingParentResults(inside, excludeInfo);
    return {
      include: (included?.matched ?? true) && !(excluded?.matched ?? false),
      excluded: excluded?.matched ?? false,
      includeInfo: included?.info ?? [],
      excludeInfo: excluded?.info ?? [],
    };
  }

  /** Makes room for what is copied. */
  #clear(to: string, isDir: boolean): void {
    const existing = this.#target.lstatOrNone(to);
    if (!existing) return;
    const existingIsDir = isDirMode(existing.mode);
    if (isDir && existingIsDir) return;
    if (this.#options.replaceExisting) this.#target.removeAll(to);
    else if (!isDir && existingIsDir) throw new BuildError(`cannot replace to directory ${to} with file`);
    else if (!isDir) this.#target.unlink(to);
  }

  #makeOpenDirectories(overwrite: boolean): void {
    for (const dir of this.#open) {
      if (dir.copied) continue;
      const stat = this.#source.lstat(dir.from);
      const existing = this.#target.lstatOrNone(dir.to);
      if (this.#makeDirectory(dir.to, stat, overwrite, existing))
        this.#copyAttributes(dir.from, dir.to, stat);
      dir.copied = true;
    }
  }

  #copyDirectory(
    from: string,
    inside: string,
    { path: to, fresh, overwrite }: Target,
    stat: FileStat,
    wanted: Selection,
  ): void {
    const before = fresh ? undefined : this.#target.lstatOrNone(to);
    const created = wanted.include && this.#makeDirectory(to, stat, overwrite, before);
    const open = { from, to, copied: wanted.include };
    this.#open.push(open);
    if (!wanted.excluded || this.#exclude?.hasExclusions) {
      for (const name of this.#source.readdir(from).sort()) {
        const below = inside === '' ? name : `${inside}/${name}`;
        this.#copyEntry(
          `${from === '/' ? '' : from}/${name}`,
          below,
          { path: `${to === '/' ? '' : to}/${name}`, fresh: created, overwrite: true },
          wanted.includeInfo,
          wanted.excludeInfo,
        );
      }
    }
    this.#open.pop();
    if (wanted.include && (created || overwrite)) this.#copyAttributes(from, to, stat);
    else if (wanted.include && before) this.#copyTimes(to, stat);
  }

  /** True when it was not there before. */
  #makeDirectory(to: string, stat: FileStat, overwrite: boolean, existing: FileStat | undefined): boolean {
    if (!existing) {
      this.#target.mkdir(to, stat.mode & MODE_BITS);
      return true;
    }
    if (!isDirMode(existing.mode)) throw new BuildError(`cannot copy to non-directory: ${to}`);
    if (overwrite) this.#target.chmod(to, stat.mode & MODE_BITS);
    return false;
  }

  #copyNode(from: string, to: string, stat: FileStat): void {
    if (isRegularMode(stat.mode)) this.#copyFile(from, to, stat);
    else if (isSymlinkMode(stat.mode)) this.#target.symlink(this.#source.readlink(from), to);
    else {
      // A socket leaves an empty file.
      const mode = (stat.mode & S_IFMT) === S_IFSOCK ? S_IFREG | (stat.mode & MODE_BITS) : stat.mode;
      this.#target.mknod(to, mode, stat.rdevMajor, stat.rdevMinor);
    }
  }

  #copyFile(from: string, to: string, stat: FileStat): void {
    if (stat.nlink > 1) {
      const key = inodeKey(stat);
      const first = this.#links.get(key);
      if (first !== undefined) {
        this.#target.link(first, to);
        return;
      }
      this.#links.set(key, to);
    }
    const input = this.#source.openFileNoFollow(from);
    try {
      const output = this.#target.createFile(to, stat.mode & MODE_BITS);
      try {
        const { throwIfAborted: onChunk } = this.#options;
        if (stat.size > 0) copyFileData(input, output, { onChunk, ways: this.#ways, size: stat.size });
      } finally {
        closeSync(output);
      }
    } finally {
      closeSync(input);
    }
  }

  #copyAttributes(from: string, to: string, stat: FileStat): void {
    const { owner, mode, modeChange } = this.#options;
    this.#target.lchown(to, owner?.uid ?? stat.uid, owner?.gid ?? stat.gid);
    if (!isSymlinkMode(stat.mode)) {
      const bits = stat.mode & MODE_BITS;
      // After the change of owner, which takes away set-id bits.
      this.#target.chmod(to, modeChange?.(bits, isDirMode(stat.mode)) ?? mode ?? bits);
    }
    this.#copyXattrs(from, to);
    this.#copyTimes(to, stat);
  }

  #copyTimes(to: string, stat: FileStat): void {
    const { time } = this.#options;
    const atime = { sec: stat.atimeSec, nsec: stat.atimeNsec };
    const mtime = { sec: stat.mtimeSec, nsec: stat.mtimeNsec };
    this.#target.utimes(to, time ?? atime, time ?? mtime);
  }

  #copyXattrs(from: string, to: string): void {
    for (const name of this.#source.listXattr(from)) {
      const value = this.#source.getXattr(from, name);
      if (value === undefined) continue;
      try {
        this.#target.setXattr(to, name, value);
      } catch {
        // Attributes that the target's file system refuses are left behind, as upstream does.
      }
    }
  }
}

interface Selection {
  readonly include: boolean;
  readonly excluded: boolean;
  readonly includeInfo: MatchInfo;
  readonly excludeInfo: MatchInfo;
}
