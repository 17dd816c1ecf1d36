import { chmodSync, copyFileSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { MutableRef } from '../cache/ref.ts';
import { redactCredentials } from '../giturl/redact.ts';
import type { GitContext, GitSourceServices } from './git-access.ts';
import type { GitCli } from './git-cli.ts';

/** Metadata key by which the repository of a remote is found again; its value names the remote. */
const keyRemote = 'git-remote';
/** The repository's settings as we made them, without what commands have added since. */
const PRISTINE = 'config.buildkit';

/** All that was ever fetched from a remote, bare, for one step at a time. */
export interface SharedRepo {
  readonly dir: string;
  readonly git: GitCli;
}

export interface SharedRepoOptions {
  readonly remote: string;
  readonly sha256: boolean;
  /** Gives up what there is and starts with nothing. */
  readonly reset: boolean;
}

/** Finds or makes the repository of a remote, which the caller has locked, and gives it to `work`. */
export async function withSharedRepo<T>(
  options: SharedRepoOptions,
  git: GitCli,
  services: GitSourceServices,
  context: GitContext,
  work: (repo: SharedRepo) => Promise<T>,
): Promise<T> {
  const { refs, mountLocally } = services;
  const key = digestOf(options.remote);
  const known = await find(key, options.reset, services);
  const description = `shared git repo for ${redactCredentials(options.remote)}`;
  await using ref = known ?? (await refs.newMutable(undefined, { description }, { signal: context.signal }));
  const tree = await mountLocally(await ref.mount(false, { signal: context.signal }));
  try {
    const repo = { dir: tree.path, git: git.with({ gitDir: tree.path }) };
    if (!known) {
      await initialize(repo, options);
      ref.record.retain = true;
      ref.record.set(keyRemote, key);
    }
    dropStaleLocks(repo.dir);
    restoreSettings(repo.dir);
    return await work(repo);
  } finally {
    await tree.release();
  }
}

async function find(
  key: string,
  reset: boolean,
  { refs }: GitSourceServices,
): Promise<MutableRef | undefined> {
  for (const record of refs.search(keyRemote, key)) {
    let ref: MutableRef;
    try {
      ref = await refs.getMutable(record.id);
    } catch {
      continue; // damaged, or being pruned: a new one will do
    }
    if (!reset) return ref;
    record.set(keyRemote, undefined);
    record.retain = false;
    await ref.release();
  }
  return undefined;
}

async function initialize({ dir, git }: SharedRepo, { remote, sha256 }: SharedRepoOptions): Promise<void> {
  const format = sha256 ? ['--object-format=sha256'] : [];
  try {
    await git.run('init', '--bare', '--template=', ...format);
    await git.run('remote', 'add', 'origin', remote);
  } catch (error) {
    throw BuildError.wrap(error, `failed to init repo for ${redactCredentials(remote)}`);
  }
  // The address may hold a password.
  chmodSync(join(dir, 'config'), 0o600);
  copyFileSync(join(dir, 'config'), join(dir, PRISTINE));
  chmodSync(join(dir, PRISTINE), 0o600);
}

/** Submodules of other commits leave their settings behind. */
function restoreSettings(dir: string): void {
  if (!existsSync(join(dir, PRISTINE))) throw new BuildError(`${dir} is not a git repository`);
  copyFileSync(join(dir, PRISTINE), join(dir, 'config'));
}

/** Ways a repository can be in which only a new one helps: refs in each other's way, leftovers of a crash. */
const BROKEN =
  /would clobber existing tag|unable to update local ref|refname conflict|\.lock': File exists|object file .* is empty|loose object .* is corrupt|not a git repository|cannot lock ref|mismatched algorithms/;

export function needsNewRepo(error: unknown): boolean {
  return error instanceof BuildError && BROKEN.test(error.message);
}

/** What was cut off leaves its locks behind; the index is of another commit. */
function dropStaleLocks(dir: string): void {
  for (const name of ['shallow.lock', 'index', 'index.lock', 'config.lock', 'packed-refs.lock', 'HEAD.lock'])
    rmSync(join(dir, name), { force: true });
}

export function isShallow(dir: string): boolean {
  return existsSync(join(dir, 'shallow'));
}
