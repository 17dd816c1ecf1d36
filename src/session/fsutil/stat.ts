import type { FileStat } from '../../sys/stat.ts';

/** One entry of a tree on the wire (FEATURES C7), with numbers where the wire's range allows them. */
export interface FsStat {
  /** Relative, slash-separated, no leading slash. */
  path: string;
  /** Go's FileMode layout (FEATURES C8). */
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Nanoseconds since the epoch. */
  modTime: bigint;
  /** Target of a symlink, or the first name of a hard link. */
  linkname: string;
  devmajor: number;
  devminor: number;
  xattrs: Readonly<Record<string, Uint8Array>> | undefined;
}

export const GO_DIR = 0x8000_0000;
export const GO_SYMLINK = 0x0800_0000;
export const GO_DEVICE = 0x0400_0000;
export const GO_NAMED_PIPE = 0x0200_0000;
export const GO_SOCKET = 0x0100_0000;
export const GO_SETUID = 0x0080_0000;
export const GO_SETGID = 0x0040_0000;
export const GO_CHAR_DEVICE = 0x0020_0000;
export const GO_STICKY = 0x0010_0000;
export const GO_IRREGULAR = 0x0008_0000;
const GO_TYPE =
  (GO_DIR | GO_SYMLINK | GO_DEVICE | GO_NAMED_PIPE | GO_SOCKET | GO_CHAR_DEVICE | GO_IRREGULAR) >>> 0;

export const isDir = (mode: number): boolean => (mode & GO_DIR) !== 0;
export const isSymlink = (mode: number): boolean => (mode & GO_SYMLINK) !== 0;
/** Only these have data; both sides must judge alike. */
export const hasData = (mode: number): boolean => (mode & GO_TYPE) === 0;

/** Permission, set-id and sticky bits. */
export const PERMISSIONS = (0o777 | GO_SETUID | GO_SETGID | GO_STICKY) >>> 0;

/** What an entry is, in a word. */
export function fileType(mode: number): 'file' | 'directory' | 'symlink' | 'other' {
  if (isDir(mode)) return 'directory';
  if (isSymlink(mode)) return 'symlink';
  return hasData(mode) ? 'file' : 'other';
}

const TYPES: readonly (readonly [unix: number, go: number])[] = [
  [0o040000, GO_DIR],
  [0o120000, GO_SYMLINK],
  [0o060000, GO_DEVICE],
  [0o020000, (GO_DEVICE | GO_CHAR_DEVICE) >>> 0],
  [0o010000, GO_NAMED_PIPE],
  [0o140000, GO_SOCKET],
];

/** `st_mode` to Go's FileMode. */
export function goMode(mode: number): number {
  const type = TYPES.find(([unix]) => unix === (mode & 0o170000))?.[1] ?? 0;
  let go = type | (mode & 0o777);
  if (mode & 0o4000) go |= GO_SETUID;
  if (mode & 0o2000) go |= GO_SETGID;
  if (mode & 0o1000) go |= GO_STICKY;
  return go >>> 0;
}

/** Permission, set-id and sticky bits as chmod takes them. */
export function unixPermissions(mode: number): number {
  let bits = mode & 0o777;
  if (mode & GO_SETUID) bits |= 0o4000;
  if (mode & GO_SETGID) bits |= 0o2000;
  if (mode & GO_STICKY) bits |= 0o1000;
  return bits;
}

export function modTimeOf(stat: FileStat): bigint {
  return BigInt(stat.mtimeSec) * 1_000_000_000n + BigInt(stat.mtimeNsec);
}

export function fileTimeOf(modTime: bigint): { sec: number; nsec: number } {
  const nsec = Number(((modTime % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n);
  return { sec: Number((modTime - BigInt(nsec)) / 1_000_000_000n), nsec };
}

/** Order of entries: byte-wise by component, so that a directory's content comes right after it. */
export function comparePaths(a: string, b: string): number {
  const x = Buffer.from(a.replaceAll('/', '\0'));
  return Buffer.compare(x, Buffer.from(b.replaceAll('/', '\0')));
}
