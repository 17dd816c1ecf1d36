import { BuildError } from '../base/errors.ts';
import type { Digest } from '../base/digest.ts';
import type { BlobProvider, ImmutableRef } from '../cache/ref.ts';
import { annotationDistributionSource, type Descriptor } from '../oci/descriptor.ts';
import { detectManifestType, parseManifest } from '../oci/manifest.ts';
import { isForeignLayer } from '../oci/media-types.ts';
import {
  formatReference,
  type ImageReference,
  parseReference,
  referenceHost,
  referencePath,
  withDefaultTag,
} from '../oci/reference.ts';
import type { Credentials } from '../registry/credentials.ts';
import { Held, isManifestRefused } from '../registry/held.ts';
import type { Registry } from '../registry/registry.ts';
import type { ContentStore } from '../store/content.ts';
import { type ExportContext, oneOff } from './exporter.ts';

export interface PushServices {
  readonly registry: Pick<Registry, 'push' | 'held'>;
  readonly content: ContentStore;
}

export interface PushRequest {
  /** Name as the user gave it. */
  readonly name: string;
  readonly digest: Digest;
  readonly byDigest: boolean;
  readonly insecure: boolean;
  readonly credentials: Credentials;
  /** Layers with the annotations that say where they came from. */
  readonly layers: readonly Descriptor[];
  readonly refs: readonly ImmutableRef[];
}

/** Sends an image of the content store to a registry: layers and configs side by side, then manifests, root last. */
export async function pushImage(
  services: PushServices,
  request: PushRequest,
  context: ExportContext,
): Promise<void> {
  const target = pushTarget(request);
  const tree = await readTree(services.content, request.digest, context.signal);
  const pusher = new Pusher(services, request, target, context);
  const { insecure, credentials } = request;
  const wanted = { root: request.digest, blobs: tree.blobs.length };
  const asking = { credentials, signal: context.signal };
  const held = await services.registry.held(target, wanted, asking, { insecure });
  const isThere = held.isAt(request.digest);
  const pushing = async (known: Held): Promise<void> => {
    const blobs = isThere ? [] : tree.blobs.filter(({ digest }) => !known.has(digest));
    await oneOff(context.progress, 'pushing layers', () => pusher.blobs(blobs));
    await oneOff(context.progress, `pushing manifest for ${formatReference(target)}`, async () => {
      if (!isThere) for (const manifest of tree.manifests.toReversed()) await pusher.send(manifest);
    });
  };
  try {
    await pushing(held);
  } catch (error) {
    if (held.isEmpty || !isManifestRefused(error)) throw error;
    await pushing(new Held()); // what was there may have gone meanwhile
  }
}

/** `name:tag@digest`, or the bare name for a push by digest. */
function pushTarget(request: PushRequest): ImageReference {
  const parsed = parseReference(request.name);
  if (!request.byDigest) return { ...withDefaultTag(parsed), digest: request.digest };
  if (parsed.tag !== undefined || parsed.digest !== undefined)
    throw new BuildError(`can't push tagged ref ${formatReference(parsed)} by digest`);
  return parsed;
}

interface ImageTree {
  /** Root first. */
  readonly manifests: readonly Descriptor[];
  readonly blobs: readonly Descriptor[];
}

/** All that an image is made of, each digest once. */
export async function readTree(content: ContentStore, root: Digest, signal: AbortSignal): Promise<ImageTree> {
  const manifests = new Map<Digest, Descriptor>();
  const blobs = new Map<Digest, Descriptor>();
  const visit = async (digest: Digest, named: Descriptor | undefined): Promise<void> => {
    if (manifests.has(digest)) return;
    const data = await content.readAll(digest, { signal });
    const mediaType = named?.mediaType || detectManifestType(data);
    manifests.set(digest, named ?? { mediaType, digest, size: data.length });
    const parsed = parseManifest(data, mediaType);
    if (parsed.kind === 'index') {
      for (const child of parsed.manifests) await visit(child.digest, child);
    } else for (const blob of [parsed.config, ...parsed.layers]) blobs.set(blob.digest, blob);
  };
  await visit(root, undefined);
  return { manifests: [...manifests.values()], blobs: [...blobs.values()] };
}

class Pusher {
  readonly #services: PushServices;
  readonly #request: PushRequest;
  readonly #target: ImageReference;
  readonly #context: ExportContext;
  readonly #sources: ReadonlyMap<Digest, Descriptor>;

  constructor(services: PushServices, request: PushRequest, target: ImageReference, context: ExportContext) {
    this.#services = services;
    this.#request = request;
    this.#target = target;
    this.#context = context;
    this.#sources = new Map(request.layers.map((layer) => [layer.digest, layer]));
  }

  /** The first failure stops the others. */
  async blobs(blobs: readonly Descriptor[]): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#context.signal, stop.signal]);
    const running = blobs
      .filter((blob) => !isForeignLayer(blob.mediaType))
      .map(async (blob) => {
        try {
          await this.send(blob, signal);
        } catch (error) {
          stop.abort();
          throw error;
        }
      });
    const outcomes = await Promise.allSettled(running);
    this.#context.signal.throwIfAborted();
    const failures = outcomes.filter((o) => o.status === 'rejected').map((o): unknown => o.reason);
    const cause = failures.find((reason) => reason !== stop.signal.reason) ?? failures[0];
    if (failures.length) throw cause;
  }

  async send(descriptor: Descriptor, signal: AbortSignal = this.#context.signal): Promise<void> {
    const { registry } = this.#services;
    const { insecure, credentials } = this.#request;
    const log = (line: string): void => this.#context.progress.log(2, Buffer.from(line));
    const named = this.#withSource(descriptor);
    const open = (offset: number): AsyncIterable<Uint8Array> => this.#read(descriptor, offset, signal);
    await registry.push(this.#target, named, open, { credentials, signal, log }, { insecure });
    this.#remember(descriptor);
  }

  /** Repositories that are known to hold the blob: it may be mounted from there. */
  #withSource(descriptor: Descriptor): Descriptor {
    const prefix = `${annotationDistributionSource}.`;
    const known = {
      ...this.#sources.get(descriptor.digest)?.annotations,
      ...this.#services.content.info(descriptor.digest)?.labels,
    };
    const sources = Object.entries(known).filter(([key]) => key.startsWith(prefix));
    return { ...descriptor, annotations: { ...descriptor.annotations, ...Object.fromEntries(sources) } };
  }

  /** From the content store, or straight from where a lazy layer lies. */
  #read(descriptor: Descriptor, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const { content } = this.#services;
    const provider = content.has(descriptor.digest) ? undefined : this.#provider(descriptor.digest);
    if (!provider) return content.read(descriptor.digest, { signal, offset });
    return provider.open(this.#sources.get(descriptor.digest) ?? descriptor, offset, { signal });
  }

  #provider(digest: Digest): BlobProvider | undefined {
    for (const ref of this.#request.refs) {
      const provider = ref.providers().get(digest);
      if (provider) return provider;
    }
    return undefined;
  }

  #remember(descriptor: Descriptor): void {
    const { content } = this.#services;
    const info = content.info(descriptor.digest);
    if (!info || !this.#sources.has(descriptor.digest)) return;
    const key = `${annotationDistributionSource}.${referenceHost(this.#target)}`;
    const names = (info.labels[key] ?? '').split(',').filter((name) => name !== '');
    const all = [...new Set([...names, referencePath(this.#target)])].sort();
    content.updateLabels(descriptor.digest, { [key]: all.join(',') });
  }
}
