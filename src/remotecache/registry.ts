import { BuildError } from '../base/errors.ts';
import { annotationDistributionSource, type Descriptor } from '../oci/descriptor.ts';
import {
  type ImageReference,
  formatReference,
  parseReference,
  referenceHost,
  referencePath,
  withDefaultTag,
} from '../oci/reference.ts';
import type { Credentials } from '../registry/credentials.ts';
import type { Registry } from '../registry/registry.ts';
import type { LayerProgress } from '../cache/ref.ts';
import type { VertexProgress } from '../solver/types.ts';
import type { LoadContext } from '../solver/sources.ts';
import type { ContentStore } from '../store/content.ts';
import type { CacheSink } from './export.ts';
import type { CacheOrigin } from './import.ts';

export interface RegistryCacheServices {
  readonly registry: Pick<Registry, 'resolve' | 'fetch' | 'fetchAll' | 'push' | 'held'>;
  readonly content: Pick<ContentStore, 'info'>;
  /** Of the clients that want something now. */
  readonly credentials: (sessions: () => readonly string[]) => Credentials;
  readonly layerProgress: (progress: VertexProgress) => LayerProgress;
}

export interface RegistryCachePlace {
  readonly reference: ImageReference;
  /** Plain HTTP and unchecked certificates. */
  readonly insecure: boolean;
}

/** The `ref` attribute. @throws `missing ref`, or when it is no reference */
export function cacheReference(text: string | undefined): ImageReference {
  if (!text) throw new BuildError('missing ref');
  return withDefaultTag(parseReference(text));
}

/** Puts a cache into a repository, under the reference's tag (FEATURES K7). */
export function registrySink(
  { reference, insecure }: RegistryCachePlace,
  services: RegistryCacheServices,
  sessions: () => readonly string[],
): CacheSink {
  const credentials = services.credentials(sessions);
  return {
    held: (wanted, { signal }) =>
      services.registry.held(reference, wanted, { credentials, signal }, { insecure }),
    put: async (descriptor, open, { signal, progress }) => {
      const known = {
        ...descriptor.annotations,
        ...services.content.info(descriptor.digest)?.labels,
      };
      const sources = Object.entries(known).filter(([key]) =>
        key.startsWith(`${annotationDistributionSource}.`),
      );
      const named = { ...descriptor, annotations: Object.fromEntries(sources) };
      const log = (line: string): void => progress.log(2, Buffer.from(line));
      const context = { credentials, signal, log };
      await services.registry.push(reference, named, open, context, { insecure });
    },
  };
}

/** Reads a cache from a repository (FEATURES K8). */
export function registryOrigin(
  { reference, insecure }: RegistryCachePlace,
  services: RegistryCacheServices,
  sessions: () => readonly string[],
): CacheOrigin {
  const { registry } = services;
  const options = { insecure };
  const from = (signal: AbortSignal, own: () => readonly string[] = sessions) => ({
    credentials: services.credentials(own),
    signal,
  });
  return {
    eager: false,
    resolve: (signal) => registry.resolve(reference, from(signal), options),
    fetchAll: (descriptor, maxBytes, signal) =>
      registry.fetchAll(reference, descriptor, from(signal), maxBytes, options),
    provider: (context: LoadContext) => ({
      open: (descriptor, offset, { signal }) =>
        registry.fetch(reference, descriptor, offset, from(signal, context.sessions), options),
      progress: services.layerProgress(context.progress),
    }),
    locate: (layer) => located(layer, reference),
  };
}

function located(layer: Descriptor, reference: ImageReference): Descriptor {
  const annotations = {
    ...layer.annotations,
    [`${annotationDistributionSource}.${referenceHost(reference)}`]: referencePath(reference),
    [`${annotationDistributionSource}.ref`]: formatReference(reference),
  };
  return { ...layer, annotations };
}
