import { isDirMode, isRegularMode, isSymlinkMode, S_IFMT } from '../sys/stat.ts';
import type { ManifestEntry } from './manifest.ts';
import type { FileChange } from './types.ts';

export interface FileDifference {
  readonly path: string;
  readonly change: FileChange;
  readonly old: string;
  readonly new: string;
}

export interface FileDifferences {
  readonly named: readonly FileDifference[];
  /** Files that differ beyond those named. */
  readonly more: number;
}

/** What has become of the files of a selection; at most `limit` by name. */
export function compareEntries(
  before: readonly ManifestEntry[],
  after: readonly ManifestEntry[],
  limit: number,
): FileDifferences {
  const old = new Map(before.map((entry) => [entry.path, entry]));
  const now = new Map(after.map((entry) => [entry.path, entry]));
  const added = after.filter(({ path }) => !old.has(path));
  const removed = before.filter(({ path }) => !now.has(path));
  const changed = after.flatMap((entry) => {
    const was = old.get(entry.path);
    return was ? changesOf(was, entry) : [];
  });
  const all = [...changed, ...moves(added, removed)];
  return { named: all.slice(0, limit), more: Math.max(0, all.length - limit) };
}

function changesOf(old: ManifestEntry, now: ManifestEntry): FileDifference[] {
  // A directory that is listed in one of the two only: its files tell.
  if (old.digest === now.digest || old.whole !== now.whole) return [];
  const { path } = now;
  const told = (change: FileChange, from = '', to = ''): FileDifference => ({
    path,
    change,
    old: from,
    new: to,
  });
  if ((old.mode & S_IFMT) !== (now.mode & S_IFMT))
    return [told('type', typeName(old.mode), typeName(now.mode))];
  const found: FileDifference[] = [];
  if (isSymlinkMode(now.mode) && old.content !== now.content)
    found.push(told('link', old.content, now.content));
  if (isRegularMode(now.mode) && hasOtherContent(old, now)) found.push(told('content'));
  if (!isSymlinkMode(now.mode) && old.mode !== now.mode)
    found.push(told('mode', octal(old.mode), octal(now.mode)));
  if (old.uid !== now.uid || old.gid !== now.gid)
    found.push(told('owner', `${old.uid}:${old.gid}`, `${now.uid}:${now.gid}`));
  if (found.length > 0) return found;
  return [told(now.whole ? 'below' : 'attributes')];
}

function hasOtherContent(old: ManifestEntry, now: ManifestEntry): boolean {
  if (old.content !== '' && now.content !== '') return old.content !== now.content;
  const sameHeader = old.mode === now.mode && old.uid === now.uid && old.gid === now.gid;
  // Not read: times tell, and where nothing else differs, so does the digest of both.
  return sameHeader || old.size !== now.size || old.mtime !== now.mtime;
}

/** Files that came and went; one of each that are the same has a new name. */
function moves(added: readonly ManifestEntry[], removed: readonly ManifestEntry[]): FileDifference[] {
  const gone = new Map<string, ManifestEntry[]>();
  for (const entry of removed)
    if (isRegularMode(entry.mode)) gone.set(entry.digest, [...(gone.get(entry.digest) ?? []), entry]);
  const renamed = new Set<ManifestEntry>();
  const found: FileDifference[] = [];
  for (const entry of withoutParents(added)) {
    const from = isRegularMode(entry.mode) ? gone.get(entry.digest)?.shift() : undefined;
    if (from) renamed.add(from);
    found.push({
      path: entry.path,
      change: from ? 'renamed' : 'added',
      old: from?.path ?? '',
      new: from ? entry.path : '',
    });
  }
  for (const { path } of withoutParents(
    removed.filter((entry) => !renamed.has(entry)),
    removed,
  ))
    found.push({ path, change: 'removed', old: '', new: '' });
  return found;
}

/** Directories of which something below is among `all` go without saying. */
function withoutParents(
  entries: readonly ManifestEntry[],
  all: readonly ManifestEntry[] = entries,
): ManifestEntry[] {
  const parents = new Set(all.map(({ path }) => path.slice(0, path.lastIndexOf('/'))));
  return entries.filter(({ path, mode }) => !isDirMode(mode) || !parents.has(path));
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

function typeName(mode: number): string {
  if (isDirMode(mode)) return 'directory';
  if (isSymlinkMode(mode)) return 'symlink';
  return isRegularMode(mode) ? 'file' : 'special file';
}
