import { gitOptions } from '../dockerfile/convert/remote-source.ts';
import { parseBool } from '../dockerfile/text.ts';
import { type GitRef, parseGitRef } from '../giturl/git-ref.ts';
import { redactCredentials } from '../giturl/redact.ts';
import { type GitOptions, git } from '../llb/source.ts';
import type { State } from '../llb/state.ts';

const KEEP_GIT_DIR_ARG = 'build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR';
const EPOCH_ARG = 'build-arg:SOURCE_DATE_EPOCH';

/**
 * The repository that `address` names, as a tree; undefined when it names none (FEATURES H14, H15, H20).
 * @throws BuildError for a wrong query
 */
export function gitContext(address: string, options: GitOptions = {}): State | undefined {
  const repository = parseGitRef(address);
  if (!repository) return undefined;
  return git(repository.remote, {
    ...options,
    ...gitOptions(repository),
    ...contextOptions(repository),
    customName: `[internal] load git source ${shown(address)}`,
  });
}

/** The user of a key is no secret, as a password is, and a user that may be a token. */
function shown(address: string): string {
  return /^ssh:\/\/[^/:@]*@/.test(address) ? address : redactCredentials(address);
}

function contextOptions({ checksum, keepGitDir, mtime }: GitRef): GitOptions {
  return { checksum, ...(keepGitDir ? { keepGitDir } : {}), ...(mtime === '' ? {} : { mtime }) };
}

/** What the client's words say about the main context, where its address does not. */
export function mainGitOptions(options: ReadonlyMap<string, string>): GitOptions {
  const keep = parseBool(options.get(KEEP_GIT_DIR_ARG) ?? '');
  return {
    ...(keep ? { keepGitDir: true } : {}),
    // Results that can be repeated need times that can.
    ...(options.get(EPOCH_ARG) ? { mtime: 'commit' } : {}),
  };
}
