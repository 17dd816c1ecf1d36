import { BuildError } from '../base/errors.ts';
import { isCommitSha } from '../giturl/git-url.ts';
import { checkRef, type GitTip } from './git-spec.ts';

/** The branch that `ls-remote --symref … HEAD` names. */
export function defaultBranchOf(listing: string): string | undefined {
  const ref = /refs\/heads\/(\S+)/.exec(listing)?.[1];
  if (ref !== undefined) checkRef(ref);
  return ref;
}

/**
 * Finds `ref` in what `ls-remote REMOTE REF REF^{}` lists: a whole name first, then a branch, then a tag, as
 * git itself prefers.
 */
export function tipOf(listing: string, ref: string): GitTip {
  const shas = new Map<string, string>();
  for (const line of listing.split('\n')) {
    const tab = line.indexOf('\t');
    if (tab >= 0) shas.set(line.slice(tab + 1), line.slice(0, tab));
  }
  const tag = `refs/tags/${withoutPrefix(ref, 'refs/tags/')}`;
  const head = `refs/heads/${withoutPrefix(ref, 'refs/heads/')}`;
  const whole = `refs/${withoutPrefix(ref, 'refs/')}`;
  // A listed head or tag is that, even when its whole name was asked for.
  const partial = whole === head || whole === tag ? [] : [whole];
  const found = [...partial, head, tag].find((name) => shas.has(name));
  if (found === undefined)
    throw new BuildError(`repository does not contain ref ${ref}, output: ${JSON.stringify(listing)}`);
  const sha = shas.get(found) ?? '';
  if (!isCommitSha(sha)) throw new BuildError(`invalid commit sha ${JSON.stringify(sha)}`);
  const commit = found === tag ? shas.get(`${tag}^{}`) : undefined;
  if (commit === undefined) return { ref: found, sha };
  if (!isCommitSha(commit)) throw new BuildError(`invalid commit sha ${JSON.stringify(commit)}`);
  return { ref: found, sha, commit };
}

function withoutPrefix(text: string, prefix: string): string {
  return text.startsWith(prefix) ? text.slice(prefix.length) : text;
}
