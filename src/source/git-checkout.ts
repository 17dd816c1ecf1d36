import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError } from '../base/errors.ts';
import { isCommitSha } from '../giturl/git-url.ts';
import { redactCredentials } from '../giturl/redact.ts';
import { openRootfs, type Rootfs } from '../sys/rootfs.ts';
import { isDirMode } from '../sys/stat.ts';
import { type GitCli, LOCAL_TRANSPORT } from './git-cli.ts';
import { type GitTarget, localRef } from './git-fetch.ts';
import type { SharedRepo } from './git-repo.ts';
import { makeWritable, setTimes, submoduleLinks } from './git-tree.ts';

/** Fills the empty directory `dest` with the target's tree (FEATURES D37). */
export async function checkout(
  target: GitTarget,
  repo: SharedRepo,
  dest: string,
  signal: AbortSignal,
): Promise<void> {
  const { spec } = target;
  using root = openRootfs(dest);
  if (spec.keepGitDir && spec.subdir === '') await checkoutWithGitDir(target, repo, dest);
  else await checkoutTree(target, repo, root, signal);
  if (spec.writable) await makeWritable(root, signal);
  if (spec.mtime === 'commit') await setTimes(root, await commitTime(target, repo.git), signal);
}

async function checkoutWithGitDir(target: GitTarget, repo: SharedRepo, dest: string): Promise<void> {
  const git = await cloneInto(target, repo, dest);
  if (!target.spec.skipSubmodules) await updating(target, () => git.run(...UPDATE_SUBMODULES));
}

/** The tree alone, or a part of it: all of it has to be there first. */
async function checkoutTree(
  target: GitTarget,
  repo: SharedRepo,
  root: Rootfs,
  signal: AbortSignal,
): Promise<void> {
  const { skipSubmodules, subdir } = target.spec;
  const temporary = subdir === '' ? '' : `checkout-${randomUUID()}`;
  const tree = join(root.dir, temporary);
  if (temporary !== '') mkdirSync(tree, { mode: 0o755 });
  const git = await extractInto(target, repo, tree);
  const withSubmodules = !skipSubmodules && existsSync(join(tree, '.gitmodules'));
  if (!skipSubmodules) await updateShared(target, repo, git, root, temporary);
  if (temporary !== '') await liftSubdir(root, temporary, subdir);
  if (withSubmodules) for await (const path of submoduleLinks(root, signal)) root.unlink(path);
}

async function extractInto({ spec, tip }: GitTarget, repo: SharedRepo, tree: string): Promise<GitCli> {
  const git = repo.git.with({ workTree: tree });
  try {
    await git.run('checkout', '--no-overlay', tip.sha, '--', '.');
  } catch (error) {
    throw BuildError.wrap(error, `failed to checkout remote ${redactCredentials(spec.remote)}`);
  }
  return git;
}

const UPDATE_SUBMODULES = ['submodule', 'update', '--init', '--recursive', '--depth=1'] as const;

/**
 * Repositories of submodules stay with the shared one. They may be out of date in ways that git does not mend
 * (a submodule that has moved): then all are fetched anew.
 */
async function updateShared(
  target: GitTarget,
  repo: SharedRepo,
  git: GitCli,
  root: Rootfs,
  temporary: string,
): Promise<void> {
  const modules = join(repo.dir, 'modules');
  if (existsSync(modules)) {
    if (await git.succeeds(...UPDATE_SUBMODULES)) return;
    await rm(modules, { recursive: true, force: true });
    rmSync(join(repo.dir, 'index'), { force: true });
    for (const name of root.readdir(temporary))
      await rm(join(root.dir, temporary, name), { recursive: true });
    await extractInto(target, repo, join(root.dir, temporary));
  }
  await updating(target, () => git.run(...UPDATE_SUBMODULES));
}

async function updating({ spec }: GitTarget, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw BuildError.wrap(error, `failed to update submodules for ${redactCredentials(spec.remote)}`);
  }
}

/** The tree with a repository of its own, which knows the server and nothing of ours. */
async function cloneInto(target: GitTarget, repo: SharedRepo, dest: string): Promise<GitCli> {
  const { spec, tip } = target;
  const gitDir = join(dest, '.git');
  const git = repo.git.with({ gitDir, workTree: dest });
  const shown = redactCredentials(spec.remote);
  const step = async (what: string, ...args: readonly string[]): Promise<void> => {
    try {
      await git.run(...args);
    } catch (error) {
      throw BuildError.wrap(error, `failed to ${what} for remote ${shown}`);
    }
  };
  await git.run('init', ...(tip.sha.length === 64 ? ['--object-format=sha256'] : []));
  await git.run('remote', 'add', 'origin', `file://${repo.dir}`);
  await fetchLocally(target, repo, git);
  await step('checkout', 'checkout', 'FETCH_HEAD');
  await step('set origin', 'remote', 'set-url', 'origin', shown);
  await step('expire reflog', 'reflog', 'expire', '--all', '--expire=now');
  rmSync(join(gitDir, 'FETCH_HEAD'), { force: true });
  return git;
}

/** Brings the tip into the new repository, under the name that the user gave it. */
async function fetchLocally(target: GitTarget, repo: SharedRepo, git: GitCli): Promise<void> {
  const { spec, ref, tip } = target;
  const isTag = (await repo.git.text('cat-file', '-t', tip.sha)) === 'tag';
  const tagName = ref.startsWith('refs/tags/') ? ref : `refs/tags/${ref}`;
  // Through git's own protocol: a plain copy could be led to files of the host.
  const local = git.with({ settings: [LOCAL_TRANSPORT] });
  const fetch = (...args: readonly string[]) => local.run('fetch', '-u', '--depth=1', ...args);
  if (!isCommitSha(ref) && !spec.fetchByCommit) {
    await fetch('--', 'origin', `${localRef(ref)}:${isTag ? tagName : ref}`);
    return;
  }
  // What has no name there gets one for as long as it takes.
  const name = `refs/buildkit/${randomUUID()}`;
  await repo.git.run('update-ref', name, tip.sha);
  try {
    if (isTag) await fetch('--no-tags', '--', 'origin', `${name}:${tagName}`);
    else if (isCommitSha(ref)) await fetch('--', 'origin', name);
    else await fetch('--no-tags', '--', 'origin', `${name}:${ref}`);
  } finally {
    await repo.git.run('update-ref', '-d', name);
  }
}

/** Moves what is in `subdir` of the checkout to the root. */
async function liftSubdir(root: Rootfs, temporary: string, subdir: string): Promise<void> {
  checkDirectories(root, temporary, subdir);
  for (const name of root.readdir(`${temporary}/${subdir}`))
    root.rename(`${temporary}/${subdir}/${name}`, name);
  await rm(join(root.dir, temporary), { recursive: true, force: true });
}

/** A symlink on the way could lead anywhere. */
function checkDirectories(root: Rootfs, base: string, subdir: string): void {
  let path = '';
  for (const part of subdir.split('/')) {
    path = path === '' ? part : `${path}/${part}`;
    const stat = root.lstatOrNone(`${base}/${path}`);
    if (!stat)
      throw new BuildError(
        `invalid subdir ${subdir}: failed to lstat ${JSON.stringify(path)}: lstat ${path}: no such file or directory`,
      );
    if (!isDirMode(stat.mode))
      throw new BuildError(
        `invalid subdir ${subdir}: git subpath ${JSON.stringify(subdir)} contains non-directory ${JSON.stringify(path)}`,
      );
  }
}

/** When the commit was made, in seconds. */
async function commitTime({ spec, tip }: GitTarget, git: GitCli): Promise<number> {
  const text = await git.text('log', '-1', '--format=%ct', `${tip.sha}^{commit}`);
  const seconds = Number(text);
  if (text === '' || !Number.isSafeInteger(seconds))
    throw new BuildError(
      `failed to get commit time for ${redactCredentials(spec.remote)}: failed to parse commit timestamp ${JSON.stringify(text)}`,
    );
  return seconds;
}
