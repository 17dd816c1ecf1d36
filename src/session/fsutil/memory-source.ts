import { hash } from 'node:crypto';
import { invalidArgument } from '../../base/errors.ts';
import { cleanPath, dirPath } from '../../match/paths.ts';
import { type EntryKind, type NamedEntry, type TreeReader, walkReader } from '../../match/walk.ts';
import type { MemoryFile } from './memory-file.ts';
import type { DirectorySourceOptions, TreeSource } from './source.ts';
import { type FsStat, GO_DIR, GO_SYMLINK, goMode } from './stat.ts';

/** What files are dated that have no date; npm gives it to the files of its packages. */
const MOD_TIME_MS = Date.UTC(1985, 9, 26, 8, 15);
const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;
const LINK_MODE = 0o777;

interface Entry {
  readonly stat: FsStat;
  readonly kind: EntryKind;
  readonly data: Uint8Array;
  /** Names in a directory. */
  readonly names: Map<string, EntryKind>;
}

/**
 * A tree of files given by path, with the directories that they need.
 * @throws BuildError for paths that lead out of the tree, or through a file
 */
export function memoryTree(
  files: Readonly<Record<string, MemoryFile>>,
): (options: DirectorySourceOptions) => TreeSource {
  const entries = new Map<string, Entry>([['', directory('')]]);
  for (const [path, file] of Object.entries(files)) add(entries, pathIn(path), file);
  const reader: TreeReader = {
    readlink: (path) => {
      const entry = entries.get(path === '.' ? '' : path);
      return entry?.kind === 'symlink' ? entry.stat.linkname : undefined;
    },
    readdir: (path) => {
      const entry = entries.get(path === '.' ? '' : path);
      return entry?.kind === 'dir' ? [...entry.names.keys()] : undefined;
    },
    list: (path) => [...entries.get(path)!.names].map(([name, kind]): NamedEntry => ({ name, kind })),
  };
  return ({ map, ...filter }) => ({
    *entries() {
      for (const { path } of walkReader(reader, filter)) {
        const stat = { ...entries.get(path)!.stat };
        if (!map || map(stat)) yield stat;
      }
    },
    read: (path) => {
      const { data } = entries.get(path)!;
      return data.byteLength > 0 ? [data] : [];
    },
  });
}

function pathIn(path: string): string {
  const clean = cleanPath(path);
  if (
    path === '' ||
    path.includes('\0') ||
    clean.startsWith('/') ||
    clean === '..' ||
    clean.startsWith('../')
  )
    throw invalidArgument(
      `invalid path ${JSON.stringify(path)} of a file in memory: it must be relative and stay inside`,
    );
  return clean === '.' ? '' : clean;
}

function add(entries: Map<string, Entry>, path: string, file: MemoryFile): void {
  const entry = entryOf(path, file);
  if (path === '' && entry.kind !== 'dir')
    throw invalidArgument('the top of a tree in memory must be a directory');
  const known = entries.get(path);
  if (known && (known.kind !== 'dir' || entry.kind !== 'dir'))
    throw invalidArgument(`${JSON.stringify(path)} is more than one file in memory`);
  entries.set(path, known ? { ...entry, names: known.names } : entry);
  if (path === '') return;
  const dir = dirPath(path);
  const parent = parentOf(entries, dir === '.' ? '' : dir);
  parent.names.set(path.slice(path.lastIndexOf('/') + 1), entry.kind);
}

function parentOf(entries: Map<string, Entry>, path: string): Entry {
  if (!entries.has(path)) add(entries, path, { directory: true });
  const entry = entries.get(path)!;
  if (entry.kind !== 'dir')
    throw invalidArgument(`${JSON.stringify(path)} is a file in memory, and a directory of others`);
  return entry;
}

function directory(path: string, mode = DIRECTORY_MODE, modTime?: Date): Entry {
  const stat = { ...statOf(path, goMode(mode), modTime), mode: (GO_DIR | goMode(mode)) >>> 0 };
  return { stat, kind: 'dir', data: new Uint8Array(), names: new Map() };
}

function entryOf(path: string, file: MemoryFile): Entry {
  if (typeof file === 'object' && 'directory' in file) return directory(path, file.mode, file.modTime);
  if (typeof file === 'object' && 'symlink' in file) {
    const stat = {
      ...statOf(path, LINK_MODE),
      mode: (GO_SYMLINK | LINK_MODE) >>> 0,
      linkname: file.symlink,
      size: Buffer.byteLength(file.symlink),
    };
    return { stat, kind: 'symlink', data: new Uint8Array(), names: new Map() };
  }
  const { content, mode = FILE_MODE, modTime } = isContent(file) ? { content: file } : file;
  const data = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  const stat = statOf(path, goMode(mode), modTime);
  return {
    stat: { ...stat, size: data.byteLength, modTime: stat.modTime + contentNanos(data) },
    kind: 'file',
    data,
    names: new Map(),
  };
}

function isContent(file: MemoryFile): file is string | Uint8Array {
  return typeof file === 'string' || file instanceof Uint8Array;
}

/**
 * A part of a millisecond that the content decides: a receiver takes a file for the one it has when size and time are
 * the same.
 */
function contentNanos(data: Uint8Array): bigint {
  return BigInt(Number.parseInt(hash('sha256', data, 'hex').slice(0, 8), 16) % 1_000_000);
}

function statOf(path: string, mode: number, modTime?: Date): FsStat {
  return {
    path,
    mode,
    uid: 0,
    gid: 0,
    size: 0,
    modTime: BigInt(modTime?.getTime() ?? MOD_TIME_MS) * 1_000_000n,
    linkname: '',
    devmajor: 0,
    devminor: 0,
    xattrs: undefined,
  };
}
