import type { Digest } from '../base/digest.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { formatReference, type ImageReference } from '../oci/reference.ts';
import type { Credentials } from '../registry/credentials.ts';
import type { Registry } from '../registry/registry.ts';
import type { RegistryContext } from '../registry/session.ts';
import type { ResolveMemo } from './memo.ts';

/** Where one image comes from: a registry, or a folder of the client. */
export interface ImageOrigin {
  /** What progress, descriptions and errors call the image. */
  readonly name: string;
  /** Names the repository whose label its blobs get, so that they are known again. Absent for a client's image. */
  readonly reference?: ImageReference;
  /** Media type, digest and size of what the name stands for. */
  resolve(signal: AbortSignal): Promise<Descriptor>;
  /** A manifest or config, digest checked. Refuses more than `maxBytes`. */
  fetchAll(descriptor: Descriptor, signal: AbortSignal, maxBytes?: number): Promise<Uint8Array>;
  /** Bytes of a layer from `offset` on; their digest is the reader's to check. */
  open(
    descriptor: Descriptor,
    offset: number,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<Uint8Array>;
  /** Manifests that name `digest` as their subject; absent where nobody can be asked. */
  referrers?(digest: Digest, signal: AbortSignal): Promise<readonly Descriptor[]>;
}

export interface RegistryOriginServices {
  readonly registry: Pick<Registry, 'resolve' | 'fetch' | 'fetchAll' | 'referrers'>;
  readonly credentials: Credentials;
  readonly log?: (line: string) => void;
  /** Makes all resolutions of one build agree although a tag moves (FEATURES E29). */
  readonly memo?: ResolveMemo<Descriptor> | undefined;
}

export function registryOrigin(reference: ImageReference, services: RegistryOriginServices): ImageOrigin {
  const { registry, credentials, log, memo } = services;
  const name = formatReference(reference);
  const from = (signal: AbortSignal): RegistryContext => ({ credentials, signal, ...(log ? { log } : {}) });
  const resolve = (signal: AbortSignal): Promise<Descriptor> => registry.resolve(reference, from(signal));
  return {
    name,
    reference,
    resolve: (signal) => (memo ? memo.resolve(name, resolve, signal) : resolve(signal)),
    fetchAll: (descriptor, signal, maxBytes) =>
      registry.fetchAll(reference, descriptor, from(signal), maxBytes),
    referrers: (digest, signal) => registry.referrers(reference, digest, from(signal)),
    open: (descriptor, offset, { signal }) => registry.fetch(reference, descriptor, offset, from(signal)),
  };
}
