import { BuildError, invalidArgument } from '../base/errors.ts';
import { isCommitSha, isGitTransport, parseGitUrl } from '../giturl/git-url.ts';
import { bundleOf, type GitBundle, wantsBundle } from './git-bundle-spec.ts';
import { wrongChecksum } from './git-checksum.ts';
import { type GitSignaturePolicy, signaturePolicy } from './git-signature.ts';
import { gitKey } from './keys.ts';

/** What `git://…` and its attributes ask for (FEATURES D32). */
export interface GitSourceSpec {
  /** What git is given. */
  readonly remote: string;
  /** Branch, tag or commit; '' = the default branch. */
  readonly ref: string;
  /** Without leading slash; '' = the whole tree. */
  readonly subdir: string;
  /** Name of the commit or annotated tag, or its beginning; '' = not checked. */
  readonly checksum: string;
  readonly keepGitDir: boolean;
  /** Names of secrets; '' = none is asked for. */
  readonly authTokenSecret: string;
  readonly authHeaderSecret: string;
  /** Contents of a known_hosts file. */
  readonly knownSshHosts: string;
  /** Id of the agent to forward. */
  readonly mountSshSock: string;
  readonly skipSubmodules: boolean;
  readonly mtime: 'checkout' | 'commit';
  readonly fetchByCommit: boolean;
  /** Where the commits come from instead of the remote. */
  readonly bundle?: GitBundle;
  /** Refuse what is not signed so. */
  readonly signature?: GitSignaturePolicy;
  /** Everybody may write what is no program, as in old versions. */
  readonly writable?: boolean;
  /** The result is a bundle instead of a tree. */
  readonly checkoutBundle: boolean;
}

/** The tip that a ref resolved to. */
export interface GitTip {
  /** Whole name of the ref, or the commit itself. */
  readonly ref: string;
  /** Commit or annotated tag. */
  readonly sha: string;
  /** Commit of an annotated tag. */
  readonly commit?: string;
}

/** What a ref resolved to, and the name of the default branch where no ref was given. */
export interface GitFound extends GitTip {
  readonly asked: string;
}

/** @throws BuildError for an address or attribute that makes no sense; `rest` is what follows `git://` */
export function gitSourceSpec(
  rest: string,
  attrs: Readonly<Record<string, string>>,
  { writable = false }: { readonly writable?: boolean } = {},
): GitSourceSpec {
  const url = parseGitUrl(isGitTransport(rest) ? rest : `https://${rest}`);
  const full = attrs['git.fullurl'];
  const remote = full === undefined ? url.remote : isGitTransport(full) ? full : `https://${full}`;
  if (remote.startsWith('-')) throw invalidArgument(`invalid git remote ${JSON.stringify(remote)}`);
  checkRef(url.ref);
  const isTrue = (key: string): boolean => attrs[key] === 'true';
  const { ref, subdir } = url;
  const which = {
    ref,
    subdir,
    checksum: attrs['git.checksum'] ?? '',
    keepGitDir: isTrue('git.keepgitdir'),
  };
  const bundle = bundleOf(attrs, which);
  const signature = signaturePolicy(attrs);
  return {
    remote,
    ...which,
    ...(bundle ? { bundle } : {}),
    ...(signature ? { signature } : {}),
    ...(writable ? { writable } : {}),
    checkoutBundle: wantsBundle(attrs, which),
    authTokenSecret: attrs['git.authtokensecret'] ?? '',
    authHeaderSecret: attrs['git.authheadersecret'] ?? '',
    knownSshHosts: attrs['git.knownsshhosts'] ?? '',
    mountSshSock: attrs['git.mountsshsock'] ?? '',
    skipSubmodules: isTrue('git.skipsubmodules'),
    mtime: mtimeOf(attrs['git.mtime'] ?? ''),
    fetchByCommit: isTrue('git.fetchbycommit'),
  };
}

function mtimeOf(text: string): GitSourceSpec['mtime'] {
  if (text === '' || text === 'checkout') return 'checkout';
  if (text === 'commit') return text;
  throw invalidArgument(`invalid git.mtime: ${JSON.stringify(text)}`);
}

/** A ref must not be taken for an option. */
export function checkRef(ref: string): void {
  if (ref.startsWith('-')) throw invalidArgument(`invalid git ref ${JSON.stringify(ref)}`);
}

/** What needs no server: a commit, or a ref that the client has resolved. Checks the checksum's form. */
export function knownTip(spec: GitSourceSpec): GitTip | undefined {
  const { checksum, ref, fetchByCommit, bundle } = spec;
  if (checksum !== '' && !/^[a-fA-F0-9]+$/.test(checksum))
    throw new BuildError(`invalid checksum ${checksum} for Git URL, expected hex commit hash`);
  if (isCommitSha(ref)) {
    if (!ref.startsWith(checksum)) throw wrongChecksum(checksum, [ref]);
    return { ref, sha: ref };
  }
  if (bundle && ref === '') return { ref: checksum, sha: checksum };
  if (!fetchByCommit || bundle) return undefined;
  if (checksum === '') throw new BuildError('fetch-by-commit requires a checksum or a commit SHA ref');
  if (!isCommitSha(checksum))
    throw new BuildError(
      `fetch-by-commit requires a full commit SHA checksum, got ${JSON.stringify(checksum)}`,
    );
  return { ref: ref === '' ? checksum : wholeBranch(ref), sha: checksum };
}

/** Keys are the same as if the server had been asked, and for it a short name is a branch first. */
function wholeBranch(ref: string): string {
  return ref.startsWith('refs/') ? ref : `refs/heads/${ref}`;
}

/** A tag counts with its own name and with that of its commit. */
export function checkTip(spec: GitSourceSpec, { sha, commit }: GitTip): void {
  const names = [sha, ...(commit === undefined ? [] : [commit])];
  if (!names.some((name) => name.startsWith(spec.checksum))) throw wrongChecksum(spec.checksum, names);
}

/** Cache key of FEATURES E11. Without a Git folder an annotated tag is the same as its commit. */
export function gitSpecKey(spec: GitSourceSpec, tip: GitTip): string {
  const sha = spec.keepGitDir ? tip.sha : (tip.commit ?? tip.sha);
  return gitKey({ ...spec, sha, ref: tip.ref });
}
