import { BuildError } from '../base/errors.ts';
import { isCommitSha } from '../giturl/git-url.ts';
import { redactCredentials } from '../giturl/redact.ts';
import type { GitCli } from './git-cli.ts';
import { dropStaleLocks, isShallow, type SharedRepo } from './git-repo.ts';
import { type GitSourceSpec, type GitTip, wrongChecksum } from './git-spec.ts';

/** What is fetched: the tip that a ref had when it was resolved. */
export interface GitTarget {
  readonly spec: GitSourceSpec;
  /** The ref as it was asked for, or the default branch. */
  readonly ref: string;
  readonly tip: GitTip;
}

/**
 * Makes the target's tip known in the repository, with as little history as the server lets us. Its ref then
 * points to it there, though the server's may have moved on.
 */
export async function fetchTarget(target: GitTarget, { git, dir }: SharedRepo): Promise<void> {
  const { ref, tip } = target;
  dropStaleLocks(dir);
  if (isCommitSha(wantedOf(target))) await fetchCommit(target, git, dir);
  else {
    const local = localRef(ref);
    await fetching(target, () =>
      git.run('fetch', '--depth=1', '--no-tags', 'origin', '--force', '--', `${ref}:${local}`),
    );
    if ((await git.text('rev-parse', local)) !== tip.sha) await bringBack(target, git, dir);
  }
  await checkFetched(target, git);
}

/** The commit where the client has resolved the ref, else the ref. */
function wantedOf({ spec, ref, tip }: GitTarget): string {
  return spec.fetchByCommit ? tip.sha : ref;
}

/** Refs are kept so that the server learns on the next fetch what is there. Any kind is kept as a tag. */
export function localRef(ref: string): string {
  return ref.startsWith('refs/tags/') ? ref : `refs/tags/${ref}`;
}

async function fetchCommit(target: GitTarget, git: GitCli, dir: string): Promise<void> {
  const { spec, tip } = target;
  if (await git.succeeds('cat-file', '-e', `${tip.sha}^{commit}`)) return;
  // A commit that the client vouches for is asked for alone; others may need the whole history.
  const depth = spec.fetchByCommit ? ['--depth=1', '--no-tags'] : wholeHistory(dir);
  await fetching(target, () => git.run('fetch', ...depth, 'origin', tip.sha));
  if (!(await git.succeeds('cat-file', '-e', `${tip.sha}^{commit}`)))
    throw new BuildError(`commit ${tip.sha} can not be found in ${redactCredentials(spec.remote)}`);
}

function wholeHistory(dir: string): string[] {
  return ['--tags', ...(isShallow(dir) ? ['--unshallow'] : [])];
}

/** The ref has moved since it was resolved: what it was is fetched by name. */
async function bringBack(target: GitTarget, git: GitCli, dir: string): Promise<void> {
  const { ref, tip } = target;
  if (!(await git.succeeds('cat-file', '-e', tip.sha))) {
    await fetching(target, () => git.run('fetch', ...wholeHistory(dir), 'origin', tip.sha));
    await git.run('reflog', 'expire', '--all', '--expire=now');
    if (!(await git.succeeds('cat-file', '-e', tip.sha)))
      throw new BuildError(
        `fetched ref ${ref} does not match expected commit ${tip.sha} and commit can not be found in the repository`,
      );
  }
  await git.run('update-ref', '--no-deref', localRef(ref), tip.sha);
}

async function fetching(target: GitTarget, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw BuildError.wrap(error, `failed to fetch remote ${redactCredentials(target.spec.remote)}`);
  }
}

/** A checksum names the tip, or the commit of the tag that it is. */
async function checkFetched({ spec, tip }: GitTarget, git: GitCli): Promise<void> {
  if (spec.checksum === '' || tip.sha.startsWith(spec.checksum)) return;
  const commit = await git.text('rev-parse', `${tip.sha}^{}`);
  if (commit.startsWith(spec.checksum)) return;
  throw wrongChecksum(spec.checksum, commit === tip.sha ? [tip.sha] : [tip.sha, commit]);
}
