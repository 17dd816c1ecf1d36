import { BuildError } from '../base/errors.ts';
import { isCommitSha } from '../giturl/git-url.ts';
import { redactCredentials } from '../giturl/redact.ts';
import type { GitCli } from './git-cli.ts';
import { isShallow, type SharedRepo } from './git-repo.ts';
import { wrongChecksum } from './git-checksum.ts';
import type { GitSourceSpec, GitTip } from './git-spec.ts';

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
 * @param origin the server, or another repository to fetch from
 */
export async function fetchTarget(target: GitTarget, repo: SharedRepo, origin = 'origin'): Promise<void> {
  await new Fetch(target, repo, origin).run();
}

/** Whether nothing needs to be fetched. */
export async function hasTarget({ spec, ref, tip }: GitTarget, { git, dir }: SharedRepo): Promise<boolean> {
  if (spec.checkoutBundle && isShallow(dir)) return false;
  if (!(await git.succeeds('cat-file', '-e', `${tip.sha}^{commit}`))) return false;
  if (!isCommitSha(ref)) await git.run('update-ref', '--no-deref', localRef(ref), tip.sha);
  return true;
}

/** Refs are kept so that the server learns on the next fetch what is there. Any kind is kept as a tag. */
export function localRef(ref: string): string {
  return ref.startsWith('refs/tags/') ? ref : `refs/tags/${ref}`;
}

class Fetch {
  readonly #target: GitTarget;
  readonly #git: GitCli;
  readonly #dir: string;
  readonly #origin: string;

  constructor(target: GitTarget, { git, dir }: SharedRepo, origin: string) {
    this.#target = target;
    this.#git = git;
    this.#dir = dir;
    this.#origin = origin;
  }

  async run(): Promise<void> {
    const { spec, ref } = this.#target;
    if (spec.fetchByCommit || isCommitSha(ref)) await this.#fetchCommit();
    else await this.#fetchRef();
    await checkFetched(this.#target, this.#git);
  }

  async #fetchRef(): Promise<void> {
    const { ref, tip, spec } = this.#target;
    const local = localRef(ref);
    const depth = spec.checkoutBundle ? this.#wholeHistory() : ['--depth=1', '--no-tags'];
    await this.#fetch(...depth, this.#origin, '--force', '--', `${ref}:${local}`);
    if ((await this.#git.text('rev-parse', local)) !== tip.sha) await this.#bringBack();
  }

  async #fetchCommit(): Promise<void> {
    const { spec, tip } = this.#target;
    const complete = !spec.checkoutBundle || !isShallow(this.#dir);
    if (complete && (await this.#has(`${tip.sha}^{commit}`))) return;
    // A commit that the client vouches for is asked for alone; others may need the whole history.
    const alone = spec.fetchByCommit && !spec.checkoutBundle;
    const depth = alone ? ['--depth=1', '--no-tags'] : this.#wholeHistory();
    await this.#fetch(...depth, this.#origin, tip.sha);
    if (!(await this.#has(`${tip.sha}^{commit}`)))
      throw new BuildError(`commit ${tip.sha} can not be found in ${redactCredentials(spec.remote)}`);
  }

  /** The ref has moved since it was resolved: what it was is fetched by name. */
  async #bringBack(): Promise<void> {
    const { ref, tip } = this.#target;
    if (!(await this.#has(tip.sha))) {
      await this.#fetch(...this.#wholeHistory(), this.#origin, tip.sha);
      await this.#git.run('reflog', 'expire', '--all', '--expire=now');
      if (!(await this.#has(tip.sha)))
        throw new BuildError(
          `fetched ref ${ref} does not match expected commit ${tip.sha} and commit can not be found in the repository`,
        );
    }
    await this.#git.run('update-ref', '--no-deref', localRef(ref), tip.sha);
  }

  #has(object: string): Promise<boolean> {
    return this.#git.succeeds('cat-file', '-e', object);
  }

  #wholeHistory(): string[] {
    return ['--tags', ...(isShallow(this.#dir) ? ['--unshallow'] : [])];
  }

  async #fetch(...args: readonly string[]): Promise<void> {
    try {
      await this.#git.run('fetch', ...args);
    } catch (error) {
      throw BuildError.wrap(error, `failed to fetch remote ${redactCredentials(this.#target.spec.remote)}`);
    }
  }
}

/** A checksum names the tip, or the commit of the tag that it is. */
async function checkFetched({ spec, tip }: GitTarget, git: GitCli): Promise<void> {
  if (spec.checksum === '' || tip.sha.startsWith(spec.checksum)) return;
  const commit = await git.text('rev-parse', `${tip.sha}^{}`);
  if (commit.startsWith(spec.checksum)) return;
  throw wrongChecksum(spec.checksum, commit === tip.sha ? [tip.sha] : [tip.sha, commit]);
}
