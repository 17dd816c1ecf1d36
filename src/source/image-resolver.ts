import type { Digest } from '../base/digest.ts';
import { BuildError, notFound } from '../base/errors.ts';
import { annotationDistributionSource, annotationUncompressed, type Descriptor } from '../oci/descriptor.ts';
import { type ImageConfig, parseImageConfig } from '../oci/image-config.ts';
import { detectManifestType, type ImageIndex, type Manifest, parseManifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';
import { PlatformMatcher } from '../oci/platform-match.ts';
import { type ImageReference, referenceHost, referencePath } from '../oci/reference.ts';
import type { ContentStore } from '../store/content.ts';
import type { LeaseStore } from '../store/lease.ts';
import type { ImageOrigin } from './image-origin.ts';

/** How long a resolved image's manifest and config are kept, at least, for those who will ask next. */
const RESOLVE_LEASE_MS = 5 * 60 * 1000;
const MAX_INDEX_DEPTH = 4;
const MAX_CONFIG_BYTES = 8 * 1024 * 1024;

/** An image as far as its manifests and config tell; its layers are not fetched. */
export interface ResolvedImage {
  /** What the reference names: an index or a manifest. */
  readonly root: Descriptor;
  readonly manifest: Descriptor;
  readonly configBytes: Uint8Array;
  readonly config: ImageConfig;
  /** Bottom up, annotated with their diff IDs and the repository they are in. */
  readonly layers: readonly Descriptor[];
  /** Index, manifest and config, in the content store. */
  readonly others: readonly Descriptor[];
}

export interface ImageResolverServices {
  readonly content: ContentStore;
  readonly leases: LeaseStore;
}

/** Finds images: from where they come from and a platform to manifest, config and layers (FEATURES D35). */
export class ImageResolver {
  readonly #services: ImageResolverServices;
  #lease: { readonly id: string; readonly createdAt: number } | undefined;

  constructor(services: ImageResolverServices) {
    this.#services = services;
  }

  async resolve(origin: ImageOrigin, platform: Platform, signal: AbortSignal): Promise<ResolvedImage> {
    const root = (await this.#known(origin, signal)) ?? (await origin.resolve(signal));
    const walk: Walk = { origin, signal, lease: this.#currentLease(), others: [] };
    const found = await this.#pick(root, new PlatformMatcher(platform), walk, 0);
    if (!found) throw notFound('no match for platform in manifest: not found');
    const { manifest, descriptor, configBytes, config } = found;
    return {
      root,
      manifest: descriptor,
      configBytes,
      config,
      layers: annotatedLayers(manifest, config, origin.reference),
      others: [...walk.others, manifest.config],
    };
  }

  /**
   * Lets go of manifests and configs kept for the next build that asks. Only when no build runs: one that does
   * counts on them.
   */
  forget(): void {
    if (this.#lease) this.#services.leases.delete(this.#lease.id);
    this.#lease = undefined;
  }

  /** One for all that is resolved within some minutes, so that many builds do not mean many leases. */
  #currentLease(): string {
    const now = Date.now();
    const { leases } = this.#services;
    const isOld = !this.#lease || now - this.#lease.createdAt > RESOLVE_LEASE_MS;
    if (!this.#lease || isOld || !leases.get(this.#lease.id)) {
      const { id } = leases.create({ temporary: true, expiresInMs: 2 * RESOLVE_LEASE_MS });
      this.#lease = { id, createdAt: now };
    }
    return this.#lease.id;
  }

  /** A manifest that came from this repository before needs no registry to name it by its digest. */
  async #known({ reference }: ImageOrigin, signal: AbortSignal): Promise<Descriptor | undefined> {
    const info = reference?.digest && this.#services.content.info(reference.digest);
    if (!info || !hasSource(info.labels, reference)) return undefined;
    try {
      const data = await this.#services.content.readAll(info.digest, { signal });
      return { mediaType: detectManifestType(data), digest: info.digest, size: info.size };
    } catch {
      signal.throwIfAborted();
      return undefined; // damaged or no manifest: the registry knows better
    }
  }

  /** The manifest below `descriptor` that fits the platform best. */
  async #pick(
    descriptor: Descriptor,
    matcher: PlatformMatcher,
    walk: Walk,
    depth: number,
  ): Promise<Picked | undefined> {
    if (depth > MAX_INDEX_DEPTH) throw new BuildError('image indexes are nested too deeply');
    const data = await this.#bring(descriptor, walk);
    const parsed = parseManifest(data, descriptor.mediaType);
    this.#link(descriptor.digest, parsed);
    walk.others.push(descriptor);
    if (parsed.kind === 'index') {
      for (const child of candidates(parsed, matcher)) {
        const found = await this.#pick(child, matcher, walk, depth + 1);
        if (found) return found;
        walk.others.length = depth + 1;
      }
      return undefined;
    }
    const configBytes = await this.#bring(parsed.config, walk, MAX_CONFIG_BYTES);
    const config = parseImageConfig(configBytes);
    // An entry without a platform says what it is in its config only; a reference to it is taken at its word.
    if (depth > 0 && !descriptor.platform && !matcher.matches(config.platform)) return undefined;
    return { manifest: parsed, descriptor, configBytes, config };
  }

  /** Bytes of a manifest or config, from the content store or into it. */
  async #bring(descriptor: Descriptor, walk: Walk, maxBytes?: number): Promise<Uint8Array> {
    const { content, leases } = this.#services;
    const { origin, signal } = walk;
    leases.add(walk.lease, { kind: 'content', id: descriptor.digest });
    const known = content.info(descriptor.digest);
    const labels = sourceLabel(known?.labels, origin.reference);
    if (known && (await content.isSound(descriptor.digest, { signal }))) {
      content.updateLabels(descriptor.digest, labels);
      return content.readAll(descriptor.digest, { signal });
    }
    const data = await origin.fetchAll(descriptor, signal, maxBytes);
    await content.writeBlob(data, { digest: descriptor.digest, labels, lease: walk.lease });
    return data;
  }

  /** Tells the garbage collector what a manifest needs. */
  #link(digest: Digest, parsed: Manifest | ImageIndex): void {
    const children = parsed.kind === 'index' ? parsed.manifests : [parsed.config, ...parsed.layers];
    const labels = children.map((child, i) => [`containerd.io/gc.ref.content.${i}`, child.digest]);
    this.#services.content.updateLabels(digest, Object.fromEntries(labels));
  }
}

interface Walk {
  readonly origin: ImageOrigin;
  readonly signal: AbortSignal;
  readonly lease: string;
  /** Indexes and the manifest on the way down. */
  readonly others: Descriptor[];
}

interface Picked {
  readonly manifest: Manifest;
  readonly descriptor: Descriptor;
  readonly configBytes: Uint8Array;
  readonly config: ImageConfig;
}

/** Entries worth a look, best first; those without a platform come last. */
function candidates(index: ImageIndex, matcher: PlatformMatcher): Descriptor[] {
  const named = index.manifests.filter((m) => m.platform !== undefined);
  const unnamed = index.manifests.filter((m) => m.platform === undefined);
  return [...matcher.sort(named, (m) => m.platform!), ...unnamed];
}

/** Label and annotation that name the repositories of a registry that hold a blob. */
function sourceKey(reference: ImageReference): string {
  return `${annotationDistributionSource}.${referenceHost(reference)}`;
}

function hasSource(labels: Readonly<Record<string, string>>, reference: ImageReference): boolean {
  return (labels[sourceKey(reference)] ?? '').split(',').includes(referencePath(reference));
}

function sourceLabel(
  labels: Readonly<Record<string, string>> | undefined,
  reference: ImageReference | undefined,
): Record<string, string> {
  if (!reference) return {};
  const key = sourceKey(reference);
  const known = (labels?.[key] ?? '').split(',').filter((name) => name !== '');
  return { [key]: [...new Set([...known, referencePath(reference)])].sort().join(',') };
}

function annotatedLayers(
  manifest: Manifest,
  config: ImageConfig,
  reference: ImageReference | undefined,
): Descriptor[] {
  if (manifest.layers.length !== config.diffIds.length)
    throw new BuildError(
      `mismatched image rootfs and manifest layers: ${config.diffIds.length} and ${manifest.layers.length}`,
    );
  return manifest.layers.map((layer, i) => ({
    ...layer,
    annotations: {
      ...layer.annotations,
      [annotationUncompressed]: config.diffIds[i]!,
      ...sourceLabel(layer.annotations, reference),
    },
  }));
}
