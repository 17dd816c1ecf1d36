import { createHash } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { basePath, sortNames } from '../match/paths.ts';
import type { JobContext, Jobs } from '../pool/types.ts';
import { type FileStat, inodeKey, isDirMode, isSymlinkMode, lstatOrNone } from '../sys/stat.ts';
import { fileDigest } from './contenthash-file.ts';
import type { ContentSelector } from './content-selector.ts';
import { HashIndex, type TreeChange } from './contenthash-index.ts';
import { keyPath, type Selected, selectPaths } from './contenthash-select.ts';

export interface ContentHashInput {
  /** Mounted tree, at rest. */
  readonly dir: string;
  /** File of the tree's index, read and written; without it nothing is kept. */
  readonly index?: string;
  readonly selectors: readonly ContentSelector[];
  /** Bytes that may be read: of files without known digests (4 KiB at least), and 128 of each name that is listed. */
  readonly maxReadBytes?: number;
}

const LEAST_FILE_BYTES = 4096;
const NAME_BYTES = 128;
const MAX_LINKS = 255;
const EMPTY = digestOf('');

/**
 * Digests of selected content, one per selector. Reads files: belongs in a worker.
 * @throws BuildError `"/x": not found`; TooMuchToRead
 */
export function contentHash(input: ContentHashInput, context: Pick<JobContext, 'throwIfAborted'>): Digest[] {
  const index = input.index === undefined ? new HashIndex() : HashIndex.load(input.index);
  const hasher = new TreeHasher(input.dir, index, () => context.throwIfAborted(), input.maxReadBytes);
  try {
    return input.selectors.map((selector) => hasher.checksum(selector));
  } finally {
    // What was found before a failure is right as well.
    if (input.index !== undefined && index.changed) index.save(input.index);
  }
}

export interface UpdateIndexInput {
  readonly index: string;
  /** New file to write instead, when the old one must stay. */
  readonly saveAs?: string;
  readonly changes: readonly TreeChange[];
}

/** Brings the index of a transferred tree up to date (FEATURES F19). */
export function updateContentIndex(input: UpdateIndexInput): void {
  const index = HashIndex.load(input.index);
  index.setTransferredRoot();
  index.update(input.changes);
  if (index.changed || input.saveAs !== undefined) index.save(input.saveAs ?? input.index);
}

export const contentHashJobs = { contentHash, updateContentIndex } satisfies Jobs;
export type ContentHashJobs = typeof contentHashJobs;

/** One digest for several (FEATURES E14). */
export function joinContentDigests(digests: readonly Digest[]): Digest {
  return digestOf(digests.join('\0'));
}

/** Digests of one tree, equal to those that other BuildKits give (FEATURES F15-F18): they are cache keys. */
export class TreeHasher {
  readonly #root: string;
  readonly #index: HashIndex;
  readonly #check: () => void;
  #readable: number;
  /** Of files with several links, by inode. */
  readonly #linked = new Map<string, Digest>();

  constructor(root: string, index: HashIndex, check: () => void = () => {}, maxReadBytes = Infinity) {
    this.#root = root === '/' ? '' : root;
    this.#index = index;
    this.#check = check;
    this.#readable = maxReadBytes;
  }

  checksum(query: ContentSelector): Digest {
    const patterns = query.includePatterns.length + query.excludePatterns.length;
    const follow = query.followLinks;
    if (!query.wildcard && patterns === 0) return this.#path(query.path, follow);
    const { prefix, selected } = selectPaths(this, query);
    for (const required of query.requiredPaths)
      if (!selected.some((s) => s.path.startsWith(required))) throw missing(required);
    const digest = (s: Selected): Digest =>
      s.followLinks && isSymlinkMode(s.stat.mode) ? this.#path(s.path, follow) : this.#recordDigest(s);
    if (selected.length === 0) return EMPTY;
    const only = selected[0]!;
    if (selected.length === 1 && basePath(keyPath(query.path) || '/') === basePath(only.path || '/'))
      return digest(only);
    const list = createHash('sha256');
    for (const s of selected) {
      const path = s.path.startsWith(prefix) ? s.path.slice(prefix.length) : s.path;
      list.update(path === '' ? '\0' : path.replaceAll('/', '\0'));
      list.update(digest(s));
    }
    return `sha256:${list.digest('hex')}` as Digest;
  }

  /** Where `path` leads after links on the way, and with `follow` at its end; `stat` when something is there. */
  resolve(path: string, follow: boolean): { path: string; stat: FileStat | undefined } {
    let rest = path;
    let current = '';
    let stat = lstatOrNone(this.#root || '/');
    for (let links = 0; rest !== ''; ) {
      const slash = rest.indexOf('/');
      const part = slash < 0 ? rest : rest.slice(0, slash);
      rest = slash < 0 ? '' : rest.slice(slash + 1);
      const next = keyPath(`${current}/${part}`);
      stat = lstatOrNone(this.#root + next || '/');
      if (!stat || !isSymlinkMode(stat.mode) || (!follow && rest === '')) {
        current = next;
        continue;
      }
      if (++links > MAX_LINKS) throw new BuildError('too many links');
      const target = readlinkSync(this.#root + next);
      rest = rest === '' ? target.replace(/\/$/, '') : `${target}/${rest}`;
      if (target.startsWith('/')) current = '';
      if (rest === '') stat = lstatOrNone(this.#root + current || '/');
    }
    return { path: current, stat };
  }

  /** Sorted names in a directory (a resolved path) with what they are. */
  list(path: string): { name: string; stat: FileStat }[] {
    this.#check();
    return this.#names(path).flatMap((name) => {
      const stat = lstatOrNone(`${this.#root}${path}/${name}`);
      return stat ? [{ name, stat }] : [];
    });
  }

  #names(path: string): string[] {
    const names = sortNames(readdirSync(this.#root + path || '/'));
    this.charge(names.length * NAME_BYTES);
    return names;
  }

  /** Counts what is about to be read. @throws TooMuchToRead */
  charge(bytes: number): void {
    this.#readable -= bytes;
    if (this.#readable < 0) throw new TooMuchToRead();
  }

  #path(path: string, follow: boolean): Digest {
    const key = keyPath(path);
    const found = this.resolve(key, follow);
    if (!found.stat) throw missing(key);
    return isDirMode(found.stat.mode) ? this.#dir(found.path) : this.#leaf(found.path, found.stat);
  }

  /** A directory in a selection stands for its header alone. */
  #recordDigest(selected: Selected): Digest {
    const { source, stat } = selected;
    return isDirMode(stat.mode) ? this.#header(source, stat) : this.#leaf(source, stat);
  }

  #leaf(path: string, stat: FileStat): Digest {
    let digest = this.#index.get(path);
    if (digest === undefined) this.#index.set(path, (digest = this.#fileDigest(path, stat)));
    return digest;
  }

  /** Links of one file are the same: it is read once. */
  #fileDigest(path: string, stat: FileStat): Digest {
    this.charge(Math.max(stat.size, LEAST_FILE_BYTES));
    const full = this.#root + path;
    if (stat.nlink < 2) return fileDigest(full, stat);
    const key = inodeKey(stat);
    const digest = this.#linked.get(key) ?? fileDigest(full, stat);
    this.#linked.set(key, digest);
    return digest;
  }

  #header(path: string, stat: FileStat | undefined): Digest {
    const key = `${path}/`;
    let digest = this.#index.get(key);
    if (digest === undefined) {
      const full = this.#root + path || '/';
      const known = stat ?? lstatOrNone(full);
      if (!known) throw missing(path);
      this.#index.set(key, (digest = fileDigest(full, known)));
    }
    return digest;
  }

  /** Its header, then each name with the digest of what it is. */
  #dir(path: string): Digest {
    const kept = this.#index.get(path);
    if (kept !== undefined) return kept;
    this.#check();
    const running = createHash('sha256').update('\0').update(this.#header(path, undefined));
    for (const name of this.#names(path)) {
      const child = `${path}/${name}`;
      const digest = this.#index.get(child) ?? this.#child(child);
      if (digest !== undefined) running.update(`\0${name}`).update(digest);
    }
    const digest = `sha256:${running.digest('hex')}` as Digest;
    this.#index.set(path, digest);
    return digest;
  }

  #child(path: string): Digest | undefined {
    const stat = lstatOrNone(this.#root + path);
    if (!stat) return undefined;
    return isDirMode(stat.mode) ? this.#dir(path) : this.#leaf(path, stat);
  }
}

/** Work for a thread. */
export class TooMuchToRead extends Error {}

/** Of no particular kind: the message of the whole build shows no code for it. */
function missing(path: string): BuildError {
  return new BuildError(`${JSON.stringify(path)}: not found`);
}
