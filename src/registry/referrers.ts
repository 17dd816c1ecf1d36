import { type Digest, digestHex } from '../base/digest.ts';
import { isCanceled } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.ts';
import { mediaTypeOciIndex } from '../oci/media-types.ts';
import type { RegistryHost } from './config.ts';
import { unexpectedStatus } from './errors.ts';
import { withRetries } from './retry.ts';
import type { RepositorySession } from './session.ts';

/**
 * What a repository holds that names `digest` as its subject (distribution-spec, Listing Referrers): by the
 * interface made for it, or under the tag that stands in for it at registries without one.
 */
export function listReferrers(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
  digest: Digest,
): Promise<readonly Descriptor[]> {
  return withRetries(session.context, () => firstList(session, hosts, digest));
}

async function firstList(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
  digest: Digest,
): Promise<readonly Descriptor[]> {
  const tag = digest.slice(0, digest.indexOf(':'));
  const paths = [`referrers/${digest}`, `manifests/${tag}-${digestHex(digest)}`];
  let failure: unknown;
  for (const path of paths) {
    for (const [i, host] of hosts.entries()) {
      try {
        const found = await indexAt(session, host, path, i === hosts.length - 1);
        if (found) return found;
      } catch (error) {
        if (isCanceled(error) || session.context.signal.aborted) throw error;
        failure ??= error;
      }
    }
  }
  if (failure !== undefined) throw failure;
  return [];
}

/** undefined when there is none at this host. */
async function indexAt(
  session: RepositorySession,
  host: RegistryHost,
  path: string,
  lastHost: boolean,
): Promise<readonly Descriptor[] | undefined> {
  const headers = { accept: mediaTypeOciIndex };
  const response = await session.request(host, { method: 'GET', path, headers, lastHost });
  if (response.status === 404) {
    await response.discard();
    return undefined;
  }
  if (response.status > 299) throw await unexpectedStatus(response);
  const parsed = parseManifest(await response.bytes(MAX_MANIFEST_BYTES), mediaTypeOciIndex);
  return parsed.kind === 'index' ? parsed.manifests : [];
}
