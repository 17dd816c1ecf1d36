import { BuildError } from '../../base/errors.ts';
import { type Digest, digestProblem, isDigest } from '../../base/digest.ts';
import { type GitRef, parseGitRef } from '../../giturl/git-ref.ts';
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

/** File name that a download gets. */
export function downloadName(url: string): string {
  if (/%(?![0-9a-fA-F]{2})|[\x00-\x1f\x7f]/.test(url)) return '__unnamed__';
  const name = basePath(decode(urlPath(url)));
  return name === '.' || name === '/' ? '__unnamed__' : name;
}

function urlPath(url: string): string {
  return /^[^:]*:\/\/[^/?#]*([^?#]*)/.exec(url)?.[1] ?? '';
}

function decode(path: string): string {
  return Buffer.from(
    path.replace(/%([0-9a-fA-F]{2})|[^\x00-\x7f]+/g, (part, hex: string | undefined) =>
      hex === undefined
        ? Buffer.from(part).toString('latin1')
        : String.fromCharCode(Number.parseInt(hex, 16)),
    ),
    'latin1',
  ).toString();
}

/** @throws {BuildError} when `text` is no digest */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new BuildError(digestProblem(text) ?? '');
}
