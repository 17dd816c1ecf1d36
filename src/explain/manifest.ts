import { hash } from 'node:crypto';
import { readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Digest } from '../base/digest.ts';
import { errno } from '../base/errors.ts';
import { areFew, type ContentSelector, selectPath } from '../cache/content-selector.ts';
import { TooMuchToRead, TreeHasher } from '../cache/contenthash.ts';
import { fileDigest } from '../cache/contenthash-file.ts';
import { HashIndex } from '../cache/contenthash-index.ts';
import { keyPath, selectPaths } from '../cache/contenthash-select.ts';
import type { JobContext, Jobs } from '../pool/types.ts';
import { type FileStat, isDirMode, isRegularMode, isSymlinkMode } from '../sys/stat.ts';
import { compareEntries, type FileDifferences } from './manifest-compare.ts';

/** Files of a selection that are kept by name; of larger ones the directories further down count as one each. */
const MAX_ENTRIES = 20_000;
/** A manifest on disk. */
const MAX_MANIFEST_BYTES = 2 << 20;
/** Content that is read once more, to tell a change of it from one of mode or owner. */
const MAX_HASHED_BYTES = 16 << 20;

/** The same limits of what is done on the calling thread. */
const SMALL_ENTRIES = 100;
const SMALL_HASHED_BYTES = 1 << 20;
const SMALL_READ_BYTES = 256 << 10;

/** One path of a selection. */
export interface ManifestEntry {
  /** Absolute in its tree. */
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Seconds. */
  readonly mtime: number;
  /** Of header and content, shortened; of all below for a directory that is not entered. */
  readonly digest: string;
  /** Of the content alone, shortened; target of a symlink; '' when it is not known. */
  readonly content: string;
  /** A directory that stands for all below it. */
  readonly whole: boolean;
}

export interface KeepManifestInput {
  /** Mounted tree, at rest. */
  readonly dir: string;
  /** File with the tree's known digests. */
  readonly index: string;
  readonly selectors: readonly ContentSelector[];
  /** Written. */
  readonly file: string;
  /** Instead of the usual limit, for tests. */
  readonly maxEntries?: number;
}

/** Writes what selections of a tree hold, by path. @returns bytes written; 0 when that would be too much */
function keepManifest(input: KeepManifestInput, context: JobContext): number {
  const maxEntries = input.maxEntries ?? MAX_ENTRIES;
  const lister = new Lister(input, context, { maxEntries, maxHashedBytes: MAX_HASHED_BYTES });
  return writeManifest(input.file, lister);
}

/** The same where it takes a millisecond or two; undefined where it would take longer, and nothing was written. */
export function keepSmallManifest(input: KeepManifestInput): number | undefined {
  if (!areFew(input.selectors)) return undefined;
  const limits = {
    maxEntries: SMALL_ENTRIES,
    maxHashedBytes: SMALL_HASHED_BYTES,
    maxReadBytes: SMALL_READ_BYTES,
  };
  let lister: Lister;
  try {
    lister = new Lister(input, { throwIfAborted: () => {} }, limits);
  } catch (error) {
    if (error instanceof TooMuchToRead) return undefined;
    throw error;
  }
  return lister.leftOut ? undefined : writeManifest(input.file, lister);
}

function writeManifest(file: string, { entries }: Lister): number {
  const bytes = zstdCompressSync(JSON.stringify(entries.map(row)));
  if (bytes.length > MAX_MANIFEST_BYTES) return 0;
  const temporary = `${file}.${process.pid}.${hash('sha256', String(performance.now())).slice(0, 12)}`;
  try {
    writeFileSync(temporary, bytes, { mode: 0o600 });
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true }); // the disk is full: what is there of it takes room, too
    throw error;
  }
  return bytes.length;
}

export interface CompareManifestsInput {
  readonly before: string;
  readonly after: string;
  /** Differences told one by one. */
  readonly limit: number;
}

/** undefined when one of the two is not kept. */
function compareManifests({ before, after, limit }: CompareManifestsInput): FileDifferences | undefined {
  const old = readManifest(before);
  const now = readManifest(after);
  return old && now && compareEntries(old, now, limit);
}

export const manifestJobs = { keepManifest, compareManifests } satisfies Jobs;
export type ManifestJobs = typeof manifestJobs;

type Row = [string, number, number, number, number, number, string, string, number];

function row(entry: ManifestEntry): Row {
  const { path, mode, uid, gid, size, mtime, digest, content, whole } = entry;
  return [path, mode, uid, gid, size, mtime, digest, content, whole ? 1 : 0];
}

/** Whether a file can be read as what `keepManifest` writes. */
export function isManifestFile(file: string): boolean {
  return readManifest(file) !== undefined;
}

function readManifest(file: string): ManifestEntry[] | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    if (errno(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const rows = JSON.parse(zstdDecompressSync(bytes).toString()) as Row[];
    return rows.map(([path, mode, uid, gid, size, mtime, digest, content, whole]) => ({
      path,
      mode,
      uid,
      gid,
      size,
      mtime,
      digest,
      content,
      whole: whole === 1,
    }));
  } catch {
    return undefined; // damaged: as good as not kept
  }
}

interface ListLimits {
  readonly maxEntries: number;
  /** Content of files that is read, in all. */
  readonly maxHashedBytes: number;
  /** As of a tree that is hashed. */
  readonly maxReadBytes?: number;
}

/** Lists what selectors take. */
class Lister {
  readonly entries: ManifestEntry[] = [];
  readonly #dir: string;
  readonly #index: HashIndex;
  readonly #context: Pick<JobContext, 'throwIfAborted'>;
  readonly #limits: ListLimits;
  readonly #tree: TreeHasher;
  readonly #seen = new Set<string>();
  #hashed = 0;
  /** A limit was reached. */
  leftOut = false;

  constructor(
    { dir, index, selectors }: KeepManifestInput,
    context: Pick<JobContext, 'throwIfAborted'>,
    limits: ListLimits,
  ) {
    this.#dir = dir === '/' ? '' : dir;
    this.#index = HashIndex.load(index);
    this.#context = context;
    this.#limits = limits;
    this.#tree = new TreeHasher(dir, this.#index, () => context.throwIfAborted(), limits.maxReadBytes);
    for (const selector of selectors) this.#add(selector);
  }

  #add(selector: ContentSelector): void {
    const patterns = selector.includePatterns.length + selector.excludePatterns.length;
    if (selector.wildcard || patterns > 0) this.#selection(selector);
    else this.#below(selector);
  }

  #selection(selector: ContentSelector): void {
    for (const { path, source, stat, followLinks } of selectPaths(this.#tree, selector).selected) {
      const isLink = followLinks && isSymlinkMode(stat.mode);
      if (isLink) this.#below({ ...selector, path, wildcard: false });
      else if (this.entries.length < this.#limits.maxEntries) this.#put(path, source, stat, false);
      else this.leftOut = true;
    }
  }

  /** Level by level, so that what does not fit is told by the directories furthest down. */
  #below(selector: ContentSelector): void {
    const start = this.#tree.resolve(keyPath(selector.path), selector.followLinks);
    if (!start.stat) return;
    let level = [{ path: start.path, stat: start.stat }];
    while (level.length > 0) {
      const next: typeof level = [];
      for (const { path, stat } of level) {
        this.#context.throwIfAborted();
        const children = isDirMode(stat.mode) ? this.#tree.list(path) : undefined;
        const room = this.#limits.maxEntries - this.entries.length - next.length - level.length;
        const whole = children !== undefined && children.length > room;
        if (whole) this.leftOut = true;
        this.#put(path, path, stat, whole);
        if (children && !whole)
          next.push(...children.map(({ name, stat: of }) => ({ path: `${path}/${name}`, stat: of })));
      }
      level = next;
    }
  }

  #put(path: string, source: string, stat: FileStat, whole: boolean): void {
    if (this.#seen.has(path)) return;
    this.#seen.add(path);
    const digest = whole
      ? this.#tree.checksum(selectPath(source, false))
      : (this.#index.get(isDirMode(stat.mode) ? `${source}/` : source) ?? this.#unknown(source, stat));
    const { mode, uid, gid, size, mtimeSec } = stat;
    const content = this.#content(source, stat);
    const isDir = isDirMode(mode);
    this.entries.push({
      path: path || '/',
      mode,
      uid,
      gid,
      size: isDir ? 0 : size,
      mtime: isDir ? 0 : mtimeSec,
      digest: short(digest.slice('sha256:'.length)),
      content,
      whole,
    });
  }

  #unknown(source: string, stat: FileStat): Digest {
    this.#tree.charge(stat.size);
    return fileDigest(this.#dir + source || '/', stat);
  }

  #content(source: string, { mode, size }: FileStat): string {
    const full = this.#dir + source;
    if (isSymlinkMode(mode)) return readlinkSync(full);
    if (!isRegularMode(mode)) return '';
    if (size > this.#limits.maxHashedBytes - this.#hashed) {
      this.leftOut = true;
      return '';
    }
    this.#hashed += size;
    return short(hash('sha256', readFileSync(full)));
  }
}

/** Enough to tell versions of one file apart. */
function short(hex: string): string {
  return hex.slice(0, 16);
}
