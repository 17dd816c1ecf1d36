import { chmodSync, closeSync, constants, ftruncateSync, mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { BuildError } from '../base/errors.ts';
import type {
  FileAction,
  FileActionCopy,
  FileActionMkDir,
  FileActionMkFile,
  FileActionRm,
  FileActionSymlink,
} from '../llb/ops.ts';
import type { JobContext, Jobs } from '../pool/types.ts';
import { SystemError } from '../sys/errno.ts';
import type { FileTime } from '../sys/file.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { isDirMode, isRegularMode } from '../sys/stat.ts';
import type { FileActionTrees } from './file.ts';
import { type ModeChange, parseMode } from './filecopy-mode.ts';
import { type Owner, resolveOwner } from './filecopy-owner.ts';
import { followParents, followPath, naming, resolveWildcards } from './filecopy-path.ts';
import { TreeCopier } from './filecopy-tree.ts';
import { unpackArchive } from './filecopy-unpack.ts';

export interface FileActionInput {
  readonly action: FileAction;
  readonly trees: FileActionTrees;
}

/** Runs one file action (FEATURES D10-D13). Holds its thread: belongs in a worker. */
async function runFileAction({ action, trees }: FileActionInput, context: JobContext): Promise<void> {
  const op = action.action;
  if (!op) throw new BuildError('invalid file action');
  using target = openRootfs(trees.target);
  const ownerOf = (value: { owner: Parameters<typeof resolveOwner>[0] }) =>
    resolveOwner(value.owner, trees.userRoot, trees.groupRoot);
  switch (op.$case) {
    case 'mkdir':
      makeDirectory(target, op.value, ownerOf(op.value));
      break;
    case 'mkfile':
      makeFile(target, op.value, ownerOf(op.value));
      break;
    case 'symlink':
      makeSymlink(target, op.value, ownerOf(op.value));
      break;
    case 'rm':
      remove(target, op.value);
      break;
    case 'copy':
      await copy(target, trees.source, op.value, ownerOf(op.value), context);
      break;
    default:
      op satisfies never;
  }
}

export const fileActionJobs = { runFileAction } satisfies Jobs;
export type FileActionJobs = typeof fileActionJobs;

/** -1 means now. */
function timeOf(nanos: bigint): FileTime | undefined {
  if (nanos === -1n) return undefined;
  const sec = nanos / 1_000_000_000n;
  return { sec: Number(sec), nsec: Number(nanos - sec * 1_000_000_000n) };
}

function finish(root: Rootfs, path: string, owner: Owner | undefined, time: FileTime | undefined): void {
  if (owner) root.lchown(path, owner.uid, owner.gid);
  if (time) root.utimes(path, time, time);
}

function makeDirectory(root: Rootfs, action: FileActionMkDir, owner: Owner | undefined): void {
  const path = followPath(root, action.path);
  const time = timeOf(action.timestamp);
  const mode = action.mode & 0o777;
  if (action.makeParents) {
    const made: string[] = [];
    root.mkdirAll(path, mode, (dir) => made.push(dir));
    for (const dir of made.reverse()) finish(root, dir, owner, time);
    return;
  }
  if (root.lstatOrNone(path)) return;
  if (!root.lstatOrNone(posix.dirname(path))) throw new SystemError('ENOENT', 'mkdir', path);
  root.mkdir(path, mode);
  finish(root, path, owner, time);
}

function makeFile(root: Rootfs, action: FileActionMkFile, owner: Owner | undefined): void {
  const path = followPath(root, action.path);
  const mode = action.mode & 0o777;
  const existing = root.lstatOrNone(path);
  // A device of a foreign image is never opened: it would be one of this host.
  if (existing && !isRegularMode(existing.mode) && !isDirMode(existing.mode))
    throw new BuildError(`open ${path}: not a regular file`);
  const fd = existing
    ? root.open(path, constants.O_WRONLY | constants.O_NONBLOCK)
    : naming('open', path, () => root.createFile(path, mode));
  try {
    ftruncateSync(fd);
    for (let at = 0; at < action.data.length; ) at += writeSync(fd, action.data, at);
  } finally {
    closeSync(fd);
  }
  finish(root, path, owner, timeOf(action.timestamp));
}

function makeSymlink(root: Rootfs, action: FileActionSymlink, owner: Owner | undefined): void {
  const path = followPath(root, action.newpath);
  naming(`symlink ${action.oldpath}`, path, () => root.symlink(action.oldpath, path));
  finish(root, path, owner, timeOf(action.timestamp));
}

function remove(root: Rootfs, action: FileActionRm): void {
  const paths = action.allowWildcard ? resolveWildcards(root, cleanPath(action.path), false) : [action.path];
  for (const path of paths) {
    const clean = posix.join('/', path);
    if (clean === '/') throw new BuildError('rmPath: invalid empty path');
    const at = followParents(root, clean);
    const parent = root.lstatOrNone(posix.dirname(at));
    if (parent && !isDirMode(parent.mode)) throw new SystemError('ENOTDIR', 'unlinkat', at);
    if (!action.allowNotFound) naming('stat', at, () => root.lstat(at));
    root.removeAll(at);
  }
}

/** Absolute and clean; a slash at the end, or `/.`, stays. */
function cleanPath(path: string): string {
  const clean = posix.join('/', path).replace(/(.)\/$/, '$1');
  if (path.endsWith('/.')) return clean === '/' ? '/.' : `${clean}/.`;
  return path.endsWith('/') && clean !== '/' ? `${clean}/` : clean;
}

/** A tree without anything, for `scratch` and images without layers. */
function emptyDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'buildkit-empty-'));
  chmodSync(path, 0o755);
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

async function copy(
  target: Rootfs,
  sourceDir: string | undefined,
  action: FileActionCopy,
  owner: Owner | undefined,
  context: JobContext,
): Promise<void> {
  const src = cleanPath(action.src);
  const dest = cleanPath(action.dest);
  if (!action.createDestPath) {
    const parent = posix.dirname(followPath(target, action.dest));
    if (!target.lstatOrNone(parent)) {
      throw new BuildError(`failed to stat ${action.dest}: lstat ${parent}: no such file or directory`);
    }
  }
  using empty = sourceDir === undefined ? emptyDirectory() : undefined;
  using source = openRootfs(sourceDir ?? empty!.path);
  const sources = action.allowWildcard ? resolveWildcards(source, src, action.followSymlink) : [src];
  if (sources.length === 0) {
    if (action.allowEmptyWildcard) return;
    throw new BuildError(`${src} not found`);
  }
  const time = timeOf(action.timestamp);
  const modeChange: ModeChange | undefined = action.modeStr === '' ? undefined : parseMode(action.modeStr);
  const copier = new TreeCopier(source, target, {
    owner,
    time,
    mode: modeChange || action.mode === -1 ? undefined : action.mode & 0o7777,
    modeChange,
    includePatterns: action.includePatterns,
    excludePatterns: action.excludePatterns,
    copyDirContents: action.dirCopyContents,
    followLinks: action.followSymlink,
    replaceExisting: action.alwaysReplaceExistingDestPaths,
    throwIfAborted: () => context.throwIfAborted(),
  });
  for (const path of sources) {
    if (
      action.attemptUnpackDockerCompatibility &&
      (await unpackArchive({ source, path, target, dest, owner, copier, context }))
    ) {
      continue;
    }
    copier.copy(path, dest);
  }
}
