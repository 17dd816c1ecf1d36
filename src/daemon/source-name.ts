import { posix } from 'node:path';
import { parseGitUrl } from '../giturl/git-url.ts';
import type { SourceOp } from '../llb/ops.ts';
import { normalizeReference } from '../oci/reference.ts';
import { gitSourceSpec } from '../source/git-spec.ts';

const IMAGE = 'docker-image://';
const GIT = 'git://';

/**
 * The identifier under which policies see a source: images under their full name, repositories by host and path
 * whatever the protocol is, everything else as it is.
 */
export function normalizedSource({ identifier, attrs }: SourceOp): string {
  try {
    if (identifier.startsWith(IMAGE)) return IMAGE + normalizeReference(identifier.slice(IMAGE.length));
    if (identifier.startsWith(GIT)) return repositoryName(identifier.slice(GIT.length), attrs);
  } catch {
    // the source itself refuses it, in its own words
  }
  return identifier;
}

function repositoryName(rest: string, attrs: Readonly<Record<string, string>>): string {
  const { remote, ref, subdir } = gitSourceSpec(rest, attrs);
  const fragment = ref === '' && subdir === '' ? '' : `#${ref}${subdir === '' ? '' : `:${subdir}`}`;
  return `${GIT}${addressOf(remote)}${fragment}`;
}

function addressOf(remote: string): string {
  try {
    const { host, path } = parseGitUrl(remote);
    return host + posix.join('/', path);
  } catch {
    return remote;
  }
}
