import { closeSync, copyFileSync, openSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Digester } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { isCommitSha } from '../giturl/git-url.ts';
import type { GitContext, GitSourceServices } from './git-access.ts';
import type { GitBundle } from './git-bundle-spec.ts';
import { wrongChecksum } from './git-checksum.ts';
import { type GitCli, LOCAL_TRANSPORT } from './git-cli.ts';
import type { GitTarget } from './git-fetch.ts';
import type { SharedRepo } from './git-repo.ts';
import type { GitSourceSpec } from './git-spec.ts';

/** Name of the file that a checkout as bundle gives. */
const FILE_NAME = 'bundle';
/** Branch of a bundle whose commit has no name. */
const FALLBACK_REF = 'refs/heads/main';

/** A repository on this host to fetch from, as from a server. */
export interface LocalOrigin {
  readonly url: string;
  readonly sha256: boolean;
}

/** Unpacks the bundle into a repository of its own, and checks that the commit is there, for `work`. */
export async function withBundle<T>(
  { bundle, checksum }: GitSourceSpec & { readonly bundle: GitBundle },
  git: GitCli,
  services: GitSourceServices,
  context: GitContext,
  work: (origin: LocalOrigin) => Promise<T>,
): Promise<T> {
  return inTemporary(services, async (dir) => {
    const file = join(dir, 'bundle.pack');
    await download(bundle, file, services, context);
    const local = git.with({ settings: [LOCAL_TRANSPORT] });
    const sha256 = await isSha256(local, file, bundle);
    const staged = local.with({ gitDir: join(dir, 'repo.git') });
    await staged.run('init', '--bare', '--template=', ...(sha256 ? ['--object-format=sha256'] : []));
    await staged.run('fetch', file, '+refs/*:refs/*').catch((error: unknown) => {
      throw BuildError.wrap(error, `failed to import git bundle ${bundle.reference} into temp`);
    });
    if (!(await staged.succeeds('cat-file', '-e', `${checksum}^{commit}`)))
      throw new BuildError(`commit ${checksum} not found in bundle ${bundle.reference}`);
    return await work({ url: `file://${join(dir, 'repo.git')}`, sha256 });
  });
}

async function inTemporary<T>(services: GitSourceServices, work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(services.tmpDir, 'git-bundle-'));
  try {
    return await work(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function download(
  bundle: GitBundle,
  file: string,
  services: GitSourceServices,
  context: GitContext,
): Promise<void> {
  const digester = new Digester();
  const fd = openSync(file, 'wx', 0o600);
  try {
    for await (const chunk of services.openBundle(bundle, context)) {
      digester.update(chunk);
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
    }
  } catch (error) {
    throw BuildError.wrap(error, `failed to fetch git bundle ${bundle.reference}`);
  } finally {
    closeSync(fd);
  }
  const found = digester.digest();
  if (found !== bundle.digest) throw wrongChecksum(bundle.digest, [found]);
}

/** The names of its refs tell in which hash the bundle is. */
async function isSha256(git: GitCli, file: string, { reference }: GitBundle): Promise<boolean> {
  const listing = await git.text('ls-remote', '--', file).catch((error: unknown) => {
    throw BuildError.wrap(error, `failed to inspect git bundle ${reference}`);
  });
  const [sha = ''] = listing.split('\t');
  if (sha === '') throw new BuildError(`failed to inspect git bundle ${reference}: no refs found`);
  if (!isCommitSha(sha))
    throw new BuildError(
      `failed to inspect git bundle ${reference}: invalid object ID ${JSON.stringify(sha)}`,
    );
  return sha.length === 64;
}

/** Puts a bundle of the target's commit, with all its history, into the empty directory `dest`. */
export async function checkoutAsBundle(
  target: GitTarget,
  repo: SharedRepo,
  dest: string,
  services: GitSourceServices,
): Promise<void> {
  const { ref, tip } = target;
  await inTemporary(services, async (dir) => {
    // The ref gets its own name here, which in the shared repository it has not.
    const git = repo.git.with({ gitDir: join(dir, 'repo.git'), settings: [LOCAL_TRANSPORT] });
    const format = tip.sha.length === 64 ? ['--object-format=sha256'] : [];
    await git.run('init', '--bare', '--template=', ...format);
    await git.run('fetch', '--no-tags', `file://${repo.dir}`, '--', tip.sha).catch((error: unknown) => {
      throw BuildError.wrap(error, `failed to fetch commit ${tip.sha} from shared repo for bundle creation`);
    });
    const name = bundleRef(ref);
    await git.run('update-ref', name, tip.sha);
    const file = join(dir, 'out.bundle');
    await git.run('bundle', 'create', file, name).catch((error: unknown) => {
      throw BuildError.wrap(error, `failed to create git bundle for ${tip.sha}`);
    });
    copyFileSync(file, join(dest, FILE_NAME));
  });
}

/** A short name may be a branch's or a tag's: it is taken for a branch. */
function bundleRef(ref: string): string {
  if (ref === '' || isCommitSha(ref)) return FALLBACK_REF;
  if (ref.startsWith('refs/tags/')) return ref;
  return `refs/heads/${ref.replace(/^refs\//, '').replace(/^heads\//, '')}`;
}
