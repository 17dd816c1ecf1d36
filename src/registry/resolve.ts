import { type Digest, Digester, isDigest } from '../base/digest.ts';
import { BuildError, isCanceled, notFound } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import {
  isIndexType,
  isManifestType,
  mediaTypeDockerList,
  mediaTypeDockerManifest,
  mediaTypeDockerSchema1,
  mediaTypeOciIndex,
  mediaTypeOciManifest,
} from '../oci/media-types.ts';
import { formatReference } from '../oci/reference.ts';
import type { RegistryHost } from './config.ts';
import { isAuthorizationError, unexpectedStatus } from './errors.ts';
import type { HttpResponse } from './response.ts';
import { withRetries } from './retry.ts';
import { deniedOrUnexpected, type RepositoryRequest, type RepositorySession } from './session.ts';

const ACCEPT = [
  mediaTypeDockerManifest,
  mediaTypeDockerList,
  mediaTypeOciManifest,
  mediaTypeOciIndex,
  '*/*',
].join(', ');

/** How telling a failure is; the error of the request that came furthest is the one to report. */
const Rank = { failed: 1, missing: 2, refused: 3, tooLarge: 4 } as const;

class Failures {
  error: unknown;
  rank = 0;
  note(error: unknown, rank: number): void {
    if (rank <= this.rank) return;
    this.error = error;
    this.rank = rank;
  }
}

/** HEAD of the manifest at each host in turn; for a digest the blob of that name at last (FEATURES F22). */
export async function resolveReference(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
): Promise<Descriptor> {
  const { reference } = session;
  const object = reference.digest ?? reference.tag;
  if (object === undefined) throw new BuildError('object required');
  const paths = [`manifests/${object}`, ...(reference.digest ? [`blobs/${reference.digest}`] : [])];
  return withRetries(session.context, () => findAt(session, hosts, paths, MAX_MANIFEST_BYTES));
}

/** HEAD of the blob at each host in turn, at last of a manifest of that digest. Blobs are of any size. */
export async function describeBlob(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
): Promise<Descriptor> {
  const { digest } = session.reference;
  if (digest === undefined) throw new BuildError('checksum required in blob reference');
  const paths = [`blobs/${digest}`, `manifests/${digest}`];
  const found = await withRetries(session.context, () =>
    findAt(session, hosts, paths, Number.POSITIVE_INFINITY),
  );
  // Some servers give a blob the media type that it has in its image: it would be looked for elsewhere then.
  return isManifestType(found.mediaType) || isIndexType(found.mediaType)
    ? found
    : { ...found, mediaType: '' };
}

async function findAt(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
  paths: readonly string[],
  maxBytes: number,
): Promise<Descriptor> {
  const failures = new Failures();
  for (const path of paths) {
    if (failures.rank > Rank.missing) break;
    for (const [i, host] of hosts.entries()) {
      const lastHost = i === hosts.length - 1;
      const found = await resolveAt(session, host, { path, lastHost, maxBytes }, failures);
      if (found) return found;
    }
  }
  throw failures.error;
}

async function resolveAt(
  session: RepositorySession,
  host: RegistryHost,
  { path, lastHost, maxBytes }: { path: string; lastHost: boolean; maxBytes: number },
  failures: Failures,
): Promise<Descriptor | undefined> {
  const request: RepositoryRequest = { method: 'HEAD', path, headers: { accept: ACCEPT }, lastHost };
  let response: HttpResponse;
  try {
    response = await session.request(host, request);
  } catch (error) {
    if (isCanceled(error) || session.context.signal.aborted) throw error;
    failures.note(accessDenied(error), Rank.failed);
    return undefined;
  }
  if (response.status === 404) {
    await response.discard();
    failures.note(notFound(`${formatReference(session.reference)}: not found`), Rank.missing);
    return undefined;
  }
  if (response.status > 299) {
    failures.note(await deniedOrUnexpected(session, host, request, response), Rank.refused);
    return undefined;
  }
  const descriptor = await describe(session, host, request, response);
  if (descriptor.size <= maxBytes) return descriptor;
  const name = formatReference(session.reference);
  failures.note(notFound(`rejecting ${descriptor.size} byte manifest for ${name}: not found`), Rank.tooLarge);
  return undefined;
}

function accessDenied(error: unknown): unknown {
  if (!isAuthorizationError(error)) return error;
  return BuildError.wrap(error, 'pull access denied, repository does not exist or may require authorization');
}

async function describe(
  session: RepositorySession,
  host: RegistryHost,
  request: RepositoryRequest,
  response: HttpResponse,
): Promise<Descriptor> {
  const { digest: asked } = session.reference;
  const named = response.header('docker-content-digest') ?? '';
  if (asked === undefined && named !== '' && !isDigest(named))
    throw new BuildError(`${JSON.stringify(named)} in header not a valid digest`);
  const digest = asked ?? (isDigest(named) ? named : undefined);
  const size = response.contentLength;
  await response.discard();
  if (response.method === 'HEAD' && digest !== undefined && size >= 0)
    return { mediaType: mediaType(response), digest, size };
  const full = await session.request(host, { ...request, method: 'GET', lastHost: true });
  if (full.status > 299) throw await unexpectedStatus(full);
  return { mediaType: mediaType(full), ...(await measure(full, asked)) };
}

async function measure(
  response: HttpResponse,
  asked: Digest | undefined,
): Promise<{ digest: Digest; size: number }> {
  const digester = new Digester();
  let size = 0;
  for await (const chunk of response.body()) {
    size += chunk.length;
    digester.update(chunk);
    if (size > MAX_MANIFEST_BYTES) break;
  }
  return { digest: asked ?? digester.digest(), size };
}

function mediaType(response: HttpResponse): string {
  const type = (response.header('content-type') ?? '').split(';')[0]!.trim();
  if (type === mediaTypeDockerSchema1 || type === 'application/vnd.docker.distribution.manifest.v1+json')
    throw new BuildError(
      'support Docker Image manifest version 2, schema 1 has been removed. ' +
        'More information at https://docs.docker.com/go/deprecated-image-specs/',
    );
  return type;
}
