import type { Digest } from '../base/digest.ts';
import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { detectManifestType, MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import { type ObjectReference, parseObjectReference } from '../oci/object-reference.ts';
import { hostPlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import { fetchAll } from '../registry/pull.ts';
import type { RemoteContent } from '../session/content.ts';
import type { ImageWish } from './image.ts';
import type { ImageOrigin } from './image-origin.ts';
import { layerLimit } from './image-spec.ts';

/** Which of a client's OCI layouts. */
export interface LayoutPlace {
  /** '' for any session of the build. */
  readonly sessionId: string;
  /** Name under which the client lends it. */
  readonly storeId: string;
}

/** What `oci-layout://NAME@DIGEST` and its attributes ask for (FEATURES D30). */
export interface OciLayoutSpec extends ImageWish {
  readonly reference: ObjectReference;
  readonly place: LayoutPlace;
}

/** @throws invalidArgument; `rest` is what follows `oci-layout://`. */
export function ociLayoutSpec(
  rest: string,
  attrs: Readonly<Record<string, string>>,
  platform: Platform | undefined,
): OciLayoutSpec {
  const limit = layerLimit(attrs['oci.layerlimit']);
  return {
    reference: parseObjectReference(rest),
    place: layoutPlace(attrs),
    platform: normalizePlatform(platform ?? hostPlatform()),
    recordType: 'regular',
    ...(limit === undefined ? {} : { layerLimit: limit }),
  };
}

export function layoutPlace(attrs: Readonly<Record<string, string>>): LayoutPlace {
  return { sessionId: attrs['oci.session'] ?? '', storeId: attrs['oci.store'] ?? '' };
}

/** A client's layout that has the blob. Its bytes are not checked: the client may send what it likes. */
export type FindLayoutBlob = (
  digest: Digest,
  signal: AbortSignal,
) => Promise<{ readonly store: RemoteContent; readonly size: number }>;

/** An image in a layout of the client; only its digest finds it there. */
export function layoutOrigin({ text, digest }: ObjectReference, find: FindLayoutBlob): ImageOrigin {
  const fetch = (descriptor: Descriptor, signal: AbortSignal, maxBytes?: number): Promise<Uint8Array> =>
    fetchAll(readLayoutBlob(find, descriptor, 0, signal), descriptor, maxBytes);
  return {
    name: text,
    fetchAll: fetch,
    open: (descriptor, offset, { signal }) => readLayoutBlob(find, descriptor, offset, signal),
    resolve: async (signal) => {
      if (digest === undefined) throw invalidArgument(`reference ${JSON.stringify(text)} must have digest`);
      const { size } = await find(digest, signal).catch((error: unknown) => {
        throw BuildError.wrap(error, 'unable to get info about digest');
      });
      if (size > MAX_MANIFEST_BYTES)
        throw new BuildError(`rejecting ${size} byte manifest for ${text}`, { code: Code.resourceExhausted });
      const data = await fetch({ mediaType: '', digest, size }, signal).catch((error: unknown) => {
        throw BuildError.wrap(error, 'unable to read root manifest');
      });
      return { mediaType: manifestType(data, text), digest, size };
    },
  };
}

function manifestType(data: Uint8Array, name: string): string {
  try {
    return detectManifestType(data);
  } catch (error) {
    throw BuildError.wrap(
      error,
      `reference ${JSON.stringify(name)} contains neither an index nor a manifest`,
    );
  }
}

/** The blob from `offset` on, not a byte more than its descriptor says. */
export async function* readLayoutBlob(
  find: FindLayoutBlob,
  { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const { store } = await find(digest, signal);
  let at = offset;
  for await (const chunk of store.read(digest, { offset, signal })) {
    at += chunk.byteLength;
    if (at > size) throw wrongSize(digest, size, 'longer');
    yield chunk;
  }
  if (at < size) throw wrongSize(digest, size, 'shorter');
}

function wrongSize(digest: Digest, size: number, how: 'longer' | 'shorter'): BuildError {
  return new BuildError(`${digest} is ${how} than its ${size} bytes`, { code: Code.failedPrecondition });
}
