import { CHUNK_BYTES } from '../base/chunks.ts';
import { digestAlgorithm } from '../base/digest.ts';
import { createHash } from 'node:crypto';
import { BuildError, Code, hasCode, notFound } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import { isForeignLayer, isIndexType, isManifestType } from '../oci/media-types.ts';
import type { RegistryHost } from './config.ts';
import { isAuthorizationError, safeUrl, unexpectedStatus } from './errors.ts';
import type { HttpResponse } from './response.ts';
import { resumed } from './resume.ts';
import type { RepositoryRequest, RepositorySession } from './session.ts';

/** See `Registry.fetch`. */
export function fetchContent(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
  descriptor: Descriptor,
  offset: number,
): AsyncGenerator<Uint8Array, void> {
  const open = (at: number): Promise<HttpResponse> => firstAnswer(session, hosts, descriptor, at);
  return resumed(open, { name: descriptor.digest, size: descriptor.size }, offset, session.context);
}

async function firstAnswer(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
  descriptor: Descriptor,
  offset: number,
): Promise<HttpResponse> {
  const headers: Record<string, string> = {
    accept: descriptor.mediaType ? `${descriptor.mediaType}, */*` : '*/*',
    'accept-encoding': 'identity',
    ...(offset > 0 ? { range: `bytes=${offset}-` } : {}),
  };
  const foreign = await foreignAnswer(session, hosts, descriptor, headers);
  if (foreign) return foreign;
  const isJson = isManifestType(descriptor.mediaType) || isIndexType(descriptor.mediaType);
  const paths = isJson ? [`manifests/${descriptor.digest}`] : [`blobs/${descriptor.digest}`];
  const large = !isJson && descriptor.size - offset >= CHUNK_BYTES;
  let first: unknown;
  for (const path of paths) {
    for (const [i, host] of hosts.entries()) {
      const lastHost = i === hosts.length - 1;
      try {
        return await ask(session, host, { method: 'GET', path, headers, large, lastHost });
      } catch (error) {
        session.context.signal.throwIfAborted();
        if (first === undefined || hasCode(first, Code.notFound)) first = error;
      }
    }
  }
  if (!isAuthorizationError(first)) throw first;
  throw BuildError.wrap(first, 'pull access denied, repository does not exist or may require authorization');
}

/** A layer that registries may not hand on is fetched from where its descriptor says. */
async function foreignAnswer(
  session: RepositorySession,
  hosts: readonly RegistryHost[],
  descriptor: Descriptor,
  headers: Readonly<Record<string, string>>,
): Promise<HttpResponse | undefined> {
  const [host] = hosts;
  if (!isForeignLayer(descriptor.mediaType) || !host) return undefined;
  for (const text of descriptor.urls ?? []) {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url?.protocol !== 'http:' && url?.protocol !== 'https:') continue;
    try {
      const request = {
        method: 'GET',
        path: '',
        url,
        headers,
        noAuthorization: true,
        lastHost: true,
      } as const;
      return await ask(session, host, request);
    } catch {
      session.context.signal.throwIfAborted();
      // The registry itself may have it all the same.
    }
  }
  return undefined;
}

async function ask(
  session: RepositorySession,
  host: RegistryHost,
  request: RepositoryRequest,
): Promise<HttpResponse> {
  const response = await session.request(host, request);
  if (response.status <= 299) return response;
  if (response.status !== 404) throw await unexpectedStatus(response);
  await response.discard();
  throw notFound(`content at ${safeUrl(response.url)} not found: not found`);
}

/** Collects `content` and checks its digest. */
export async function fetchAll(
  content: AsyncIterable<Uint8Array>,
  descriptor: Descriptor,
  maxBytes = MAX_MANIFEST_BYTES,
): Promise<Uint8Array> {
  const tooLarge = (): BuildError =>
    new BuildError(`blob ${descriptor.digest} is too large`, { code: Code.resourceExhausted });
  if (descriptor.size > maxBytes) throw tooLarge();
  const chunks: Uint8Array[] = [];
  const algorithm = digestAlgorithm(descriptor.digest);
  const hash = createHash(algorithm);
  let size = 0;
  for await (const chunk of content) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(); // whatever size it was said to have
    hash.update(chunk);
    chunks.push(chunk);
  }
  const actual = `${algorithm}:${hash.digest('hex')}`;
  if (actual !== descriptor.digest)
    throw new BuildError(
      `unexpected commit digest ${actual}, expected ${descriptor.digest}: failed precondition`,
      { code: Code.failedPrecondition },
    );
  return Buffer.concat(chunks);
}
