import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { redactCredentials } from '../giturl/redact.ts';
import { type GitContext, type GitSourceServices, withGit } from './git-access.ts';
import { checkoutAsBundle, withBundle } from './git-bundle.ts';
import { checkout } from './git-checkout.ts';
import { type GitCli, LOCAL_TRANSPORT } from './git-cli.ts';
import { fetchTarget, type GitTarget, hasTarget } from './git-fetch.ts';
import { defaultBranchOf, tipOf } from './git-refs.ts';
import { needsNewRepo, type SharedRepo, withSharedRepo } from './git-repo.ts';
import { verifyGitSignature } from './git-signature.ts';
import { checkTip, type GitFound, type GitSourceSpec, gitSpecKey, knownTip } from './git-spec.ts';
import type { SourceInstance, SourceKey } from './source.ts';

/** Metadata key by which the tree of an earlier checkout is found. */
const keySnapshot = 'git-snapshot';

/** What a client learns of a repository without its tree (FEATURES I12). */
export interface GitMetadata {
  readonly ref: string;
  readonly checksum: string;
  /** Commit of an annotated tag. */
  readonly commitChecksum: string;
  readonly commitObject?: Uint8Array;
  readonly tagObject?: Uint8Array;
}

/** A checkout of a git repository (FEATURES D37, D38). */
export class GitSource implements SourceInstance {
  readonly #spec: GitSourceSpec;
  readonly #services: GitSourceServices;
  #found: GitFound | undefined;
  #verified = false;

  constructor(spec: GitSourceSpec, services: GitSourceServices) {
    this.#spec = spec;
    this.#services = services;
  }

  async cacheKey(_index: number, context: GitContext): Promise<SourceKey> {
    await this.#verify(context);
    const found = await this.#resolve(context);
    return { key: gitSpecKey(this.#spec, found), pin: found.sha, done: true };
  }

  /** Of what `cacheKey` has resolved and, if asked to, checked the signature of. */
  async snapshot(context: GitContext): Promise<ImmutableRef> {
    const spec = this.#spec;
    await this.#verify(context);
    const found = await this.#resolve(context);
    const key = `${gitSpecKey(spec, found)}:${spec.subdir}`;
    const target = { spec, ref: found.asked, tip: found };
    const known = await this.#checkedOut(key);
    if (known) return known;
    return this.#withRepo(context, target.tip, async (repo) => {
      // Perhaps another build's, while this one waited for its turn.
      const made = await this.#checkedOut(key);
      if (made) return made;
      await this.#fetch(target, repo, context);
      const ref = await this.#checkout(target, repo, context);
      ref.record.set(keySnapshot, key);
      return ref;
    });
  }

  async #checkedOut(key: string): Promise<ImmutableRef | undefined> {
    const { refs } = this.#services;
    for (const record of refs.search(keySnapshot, key)) {
      try {
        return await refs.get(record.id);
      } catch (error) {
        if (!hasCode(error, Code.notFound)) throw error; // pruned just now
      }
    }
    return undefined;
  }

  /** @throws BuildError when a signature is asked for that is not there. */
  async metadata(options: { readonly objects: boolean }, context: GitContext): Promise<GitMetadata> {
    const { signature } = this.#spec;
    if (!signature) return this.#metadata(options, context);
    const metadata = await this.#metadata({ objects: true }, context);
    verifyGitSignature(metadata, signature);
    return metadata;
  }

  async #verify(context: GitContext): Promise<void> {
    if (!this.#spec.signature || this.#verified) return;
    await this.metadata({ objects: true }, context);
    this.#verified = true;
  }

  async #metadata(options: { readonly objects: boolean }, context: GitContext): Promise<GitMetadata> {
    const spec = this.#spec;
    const found = await this.#resolve(context);
    const commit = spec.keepGitDir ? '' : (found.commit ?? '');
    const plain = { ref: found.ref, checksum: found.sha, commitChecksum: commit };
    if (!options.objects) return plain;
    const target = { spec, ref: found.asked, tip: found };
    return this.#withRepo(context, found, async (repo) => {
      await this.#fetch(target, repo, context);
      const { git } = repo;
      const type = await git.text('cat-file', '-t', found.sha);
      if (type === 'commit')
        return { ...plain, commitChecksum: '', commitObject: await git.run('cat-file', 'commit', found.sha) };
      if (type !== 'tag') throw new BuildError(`expected commit or tag object, got ${type}`);
      const commitChecksum = await git.text('rev-parse', `${found.sha}^{commit}`);
      const tagObject = await git.run('cat-file', 'tag', found.sha);
      const commitObject = await git.run('cat-file', 'commit', commitChecksum);
      return { ...plain, commitChecksum, tagObject, commitObject };
    });
  }

  async #resolve(context: GitContext): Promise<GitFound> {
    this.#found ??= await this.#find(context);
    return this.#found;
  }

  async #find(context: GitContext): Promise<GitFound> {
    const spec = this.#spec;
    const known = knownTip(spec);
    if (known) return { ...known, asked: known.ref };
    const { bundle, remote, ref } = spec;
    // A bundle never changes.
    const memo = bundle ? undefined : this.#services.memo?.(context.sessions());
    const ask = (signal: AbortSignal) =>
      withGit(spec, this.#services, { ...context, signal }, (git) =>
        bundle
          ? withBundle({ ...spec, bundle }, git, this.#services, context, ({ url }) =>
              tipAt(url, ref, git.with({ settings: [LOCAL_TRANSPORT] })),
            )
          : tipAt(remote, ref, git),
      );
    const found = memo
      ? await memo.resolve(`${remote}#${ref}`, ask, context.signal)
      : await ask(context.signal);
    checkTip(spec, found);
    return found;
  }

  /** The shared repository for one step at a time; work that it is in the way of is done again with a new one. */
  async #withRepo<T>(
    context: GitContext,
    { sha }: { readonly sha: string },
    work: (repo: SharedRepo) => Promise<T>,
  ): Promise<T> {
    const { remote } = this.#spec;
    const sha256 = sha.length === 64;
    return await withGit(this.#spec, this.#services, context, async (git) => {
      // Not while a client is asked for its secrets: it may let us wait.
      using _turn = await this.#services.locks.acquire(remote, context.signal);
      const attempt = (reset: boolean) =>
        withSharedRepo({ remote, sha256, reset }, git, this.#services, context, work);
      try {
        return await attempt(false);
      } catch (error) {
        context.signal.throwIfAborted();
        if (!needsNewRepo(error)) throw error;
        return await attempt(true);
      }
    });
  }

  async #fetch(target: GitTarget, repo: SharedRepo, context: GitContext): Promise<void> {
    const { bundle } = this.#spec;
    if (!bundle) return fetchTarget(target, repo);
    if (await hasTarget(target, repo)) return undefined;
    return withBundle({ ...this.#spec, bundle }, repo.git, this.#services, context, ({ url }) =>
      fetchTarget(target, { ...repo, git: repo.git.with({ settings: [LOCAL_TRANSPORT] }) }, url),
    );
  }

  async #checkout(target: GitTarget, repo: SharedRepo, context: GitContext): Promise<ImmutableRef> {
    const { refs, mountLocally } = this.#services;
    const { remote, ref } = this.#spec;
    const description = `git snapshot for ${redactCredentials(remote)}#${ref}`;
    const { signal } = context;
    const mutable = await refs.newMutable(
      undefined,
      { description, type: 'source.git.checkout' },
      { signal },
    );
    try {
      const tree = await mountLocally(await mutable.mount(false, { signal }));
      try {
        if (this.#spec.checkoutBundle) await checkoutAsBundle(target, repo, tree.path, this.#services);
        else await checkout(target, repo, tree.path, signal);
      } finally {
        await tree.release();
      }
    } catch (error) {
      await mutable.release();
      throw error;
    }
    return await mutable.commit();
  }
}

/** Asks the server what the ref is now. */
async function tipAt(remote: string, ref: string, git: GitCli): Promise<GitFound> {
  const asked = ref === '' ? await defaultBranch(git, remote) : ref;
  const listing = await git.run('ls-remote', '--', remote, asked, `${asked}^{}`).catch((error: unknown) => {
    throw BuildError.wrap(error, `failed to fetch remote ${redactCredentials(remote)}`);
  });
  return { ...tipOf(listing.toString(), asked), asked };
}

async function defaultBranch(git: GitCli, remote: string): Promise<string> {
  const shown = redactCredentials(remote);
  let listing: string;
  try {
    listing = await git.text('ls-remote', '--symref', '--', remote, 'HEAD');
  } catch (error) {
    throw BuildError.wrap(error, `error fetching default branch for repository ${shown}`);
  }
  const branch = defaultBranchOf(listing);
  if (branch === undefined) throw new BuildError(`could not find default branch for repository: ${shown}`);
  return branch;
}
