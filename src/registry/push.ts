import { BuildError } from '../base/errors.ts';
import { annotationDistributionSource, type Descriptor } from '../oci/descriptor.ts';
import { isIndexType, isManifestType } from '../oci/media-types.ts';
import { type ImageReference, referenceHost, referencePath } from '../oci/reference.ts';
import type { RegistryHost } from './config.ts';
import { isAuthorizationError, StatusError, unexpectedStatus } from './errors.ts';
import type { HttpResponse } from './response.ts';
import type { PushResult } from './registry.ts';
import { withRetries } from './retry.ts';
import { BlobUpload, expectStatus } from './upload.ts';
import { deniedOrUnexpected, type RepositoryRequest, type RepositorySession } from './session.ts';

/** Gives the bytes from `offset` on; called once for each try. */
export type PushSource = (offset: number) => AsyncIterable<Uint8Array>;

/** See `Registry.push`. */
export function pushDescriptor(
  session: RepositorySession,
  host: RegistryHost,
  descriptor: Descriptor,
  source: PushSource,
): Promise<PushResult> {
  const isManifest = isManifestType(descriptor.mediaType) || isIndexType(descriptor.mediaType);
  const upload = new BlobUpload(session, host, descriptor, source);
  return withRetries(session.context, async () => {
    const path = isManifest
      ? `manifests/${manifestName(session.reference, descriptor)}`
      : `blobs/${descriptor.digest}`;
    if (await exists(session, host, path, descriptor)) return 'exists';
    return isManifest
      ? await putManifest(session, host, path, descriptor, source)
      : await putBlob(session, host, descriptor, upload);
  });
}

/** The tag for the root manifest, the digest for every other. */
function manifestName(reference: ImageReference, descriptor: Descriptor): string {
  const isRoot = reference.digest === undefined || reference.digest === descriptor.digest;
  return (isRoot ? reference.tag : undefined) ?? descriptor.digest;
}

async function exists(
  session: RepositorySession,
  host: RegistryHost,
  path: string,
  descriptor: Descriptor,
): Promise<boolean> {
  const headers = { accept: `${descriptor.mediaType}, */*` };
  const request: RepositoryRequest = { method: 'HEAD', path, headers, lastHost: true };
  let response: HttpResponse;
  try {
    response = await session.request(host, request);
  } catch (error) {
    if (isAuthorizationError(error)) return false; // it may still be allowed to push
    throw error;
  }
  if (response.status !== 200 && response.status !== 404)
    throw await deniedOrUnexpected(session, host, request, response);
  await response.discard();
  if (response.status === 404) return false;
  return path.endsWith(descriptor.digest) || response.header('docker-content-digest') === descriptor.digest;
}

async function putManifest(
  session: RepositorySession,
  host: RegistryHost,
  path: string,
  descriptor: Descriptor,
  source: PushSource,
): Promise<PushResult> {
  const response = await session.request(host, {
    method: 'PUT',
    path,
    headers: { 'content-type': descriptor.mediaType },
    body: { size: descriptor.size, open: () => source(0) },
    lastHost: true,
  });
  await expectStatus(response, [200, 201, 204]);
  return 'uploaded';
}

async function putBlob(
  session: RepositorySession,
  host: RegistryHost,
  descriptor: Descriptor,
  upload: BlobUpload,
): Promise<PushResult> {
  if (await upload.resume()) return 'uploaded';
  const from = mountCandidate(session.reference, descriptor);
  const mounting = from === undefined ? undefined : await mount(session, host, descriptor, from);
  const response = mounting ?? (await startUpload(session, host));
  if (response.status === 201) {
    await response.discard();
    return 'mounted';
  }
  if (![200, 202, 204].includes(response.status)) throw await unexpectedStatus(response);
  await upload.send(response);
  return 'uploaded';
}

async function startUpload(session: RepositorySession, host: RegistryHost): Promise<HttpResponse> {
  try {
    return await session.request(host, { method: 'POST', path: 'blobs/uploads/', lastHost: true });
  } catch (error) {
    if (!isAuthorizationError(error)) throw error;
    throw BuildError.wrap(
      error,
      'push access denied, repository does not exist or may require authorization',
    );
  }
}

/** Asks to take the blob over from repository `from`; undefined when that is not allowed. */
async function mount(
  session: RepositorySession,
  host: RegistryHost,
  descriptor: Descriptor,
  from: string,
): Promise<HttpResponse | undefined> {
  try {
    const response = await session.request(host, {
      method: 'POST',
      path: 'blobs/uploads/',
      query: { mount: descriptor.digest, from },
      scopes: [`repository:${from}:pull`],
      lastHost: true,
    });
    if (response.status !== 401) return response;
    await response.discard();
    return undefined;
  } catch (error) {
    // No token for the other repository: the plain upload needs none.
    if (isAuthorizationError(error) || isRefusedToken(error)) return undefined;
    throw BuildError.wrap(error, `pushing with mount from ${from}`);
  }
}

function isRefusedToken(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause)
    if (at instanceof StatusError && (at.status === 401 || at.status === 403)) return true;
  return false;
}

/** The repository of the same registry that has the blob and whose name is most like the target's. */
function mountCandidate(reference: ImageReference, descriptor: Descriptor): string | undefined {
  const key = `${annotationDistributionSource}.${referenceHost(reference)}`;
  const target = referencePath(reference).split('/');
  let best: { name: string; shared: number } | undefined;
  for (const name of (descriptor.annotations?.[key] ?? '').split(',')) {
    if (name === '') continue;
    const parts = name.split('/');
    if (name === referencePath(reference)) continue;
    const differs = parts.findIndex((part, i) => part !== target[i]);
    const shared = differs < 0 ? parts.length : differs;
    if (!best || shared >= best.shared) best = { name, shared };
  }
  return best?.name;
}
