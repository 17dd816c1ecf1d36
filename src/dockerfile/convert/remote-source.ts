import { BuildError } from '../../base/errors.ts';
import { type Digest, digestProblem, isDigest } from '../../base/digest.ts';
import { type GitRef, parseGitRef } from '../../giturl/git-ref.ts';
import { parseGoUrl } from '../../giturl/go-url.ts';
import { basePath } from '../../llb/gopath.ts';
import type { GitOptions } from '../../llb/source.ts';

/** A source of ADD or a context that is a Git repository (FEATURES H20), `github.com/…` included. */
export function isGitSource(source: string): boolean {
  try {
    return parseGitRef(source) !== undefined;
  } catch {
    return false; // one with a wrong query: whoever uses it is told
  }
}

/** What the address of a repository itself asks for; the checksum and the Git folder are the user's affair. */
export function gitOptions(repository: GitRef): GitOptions {
  const { ref, subdir, submodules, fetchByCommit } = repository;
  return {
    ref,
    subdir,
    ...(submodules === false ? { skipSubmodules: true } : {}),
    ...(fetchByCommit ? { fetchByCommit } : {}),
  };
}

export function isHttpSource(source: string): boolean {
  return /^https?:\/\//.test(source) && !isGitSource(source);
}

/** File name that a download gets; of one whose address makes no sense nothing is known. */
export function downloadName(url: string): string {
  const name = basePath(pathOf(url));
  return name === '.' || name === '/' ? '__unnamed__' : name;
}

/** Escapes that make no text stay half a character, for which the step is refused. */
function pathOf(url: string): string {
  try {
    const { path, rawPath } = parseGoUrl(url);
    return isText(rawPath) ? path : path.replaceAll('\ufffd', '\udcff');
  } catch {
    return ''; // whoever downloads it is told
  }
}

function isText(escaped: string): boolean {
  try {
    decodeURIComponent(escaped);
    return true;
  } catch {
    return false;
  }
}

/** @throws {BuildError} when `text` is no digest */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new BuildError(digestProblem(text) ?? '');
}
