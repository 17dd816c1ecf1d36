import type { Digest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { SharedTask } from '../base/shared-task.ts';
import type { BlobProvider, ImmutableRef, RecordType, RefManager } from '../cache/ref.ts';
import type { Platform } from '../oci/platform.ts';
import type { OpContext } from '../solver/types.ts';
import type { ContentStore } from '../store/content.ts';
import type { LeaseStore } from '../store/lease.ts';
import type { ImageOrigin } from './image-origin.ts';
import type { ImageResolver, ResolvedImage } from './image-resolver.ts';
import { layerProgress, oneOff } from './progress.ts';
import type { SourceInstance, SourceKey } from './source.ts';

/** The keys of FEATURES E10, which are the graph's affair. */
export interface ImageKeys {
  manifestKey(input: { digest: Digest; platform: Platform; layerLimit?: number }): Digest;
  /** undefined for an image without layers. */
  configKey(diffIds: readonly Digest[], layerLimit?: number): Digest | undefined;
}

export interface ImageSourceServices {
  readonly resolver: ImageResolver;
  readonly refs: Pick<RefManager, 'getByBlob'>;
  readonly leases: Pick<LeaseStore, 'add'>;
  readonly content: Pick<ContentStore, 'has'>;
  readonly keys: ImageKeys;
}

/** Which part of an image is wanted. */
export interface ImageWish {
  /** Normalized. */
  readonly platform: Platform;
  readonly recordType: RecordType;
  /** Only so many of the image's layers, from the bottom. */
  readonly layerLimit?: number;
  /** The manifest's digest must be this. */
  readonly checksum?: Digest;
}

/** An image; its layers stay where they are until somebody mounts them (FEATURES D35). */
export class ImageSource implements SourceInstance {
  readonly #wish: ImageWish;
  readonly #origin: (context: OpContext) => ImageOrigin;
  readonly #services: ImageSourceServices;
  #resolving: SharedTask<ResolvedImage> | undefined;

  /** `origin` speaks for the sessions that want the step. */
  constructor(wish: ImageWish, origin: (context: OpContext) => ImageOrigin, services: ImageSourceServices) {
    this.#wish = wish;
    this.#origin = origin;
    this.#services = services;
  }

  /** Index 0: manifest and platform. Index 1: the chain of layers, the same under any name. */
  async cacheKey(index: number, context: OpContext): Promise<SourceKey> {
    const { platform, layerLimit } = this.#wish;
    const image = await this.#resolved(context);
    const limit = layerLimit === undefined ? {} : { layerLimit };
    const manifestKey = this.#services.keys.manifestKey({ digest: image.root.digest, platform, ...limit });
    const hasChain = image.config.rootfsType === 'layers';
    const configKey = hasChain ? this.#services.keys.configKey(image.config.diffIds, layerLimit) : undefined;
    return {
      key: index === 0 ? manifestKey : (configKey ?? manifestKey),
      pin: image.root.digest,
      done: index > 0,
    };
  }

  async snapshot(context: OpContext): Promise<ImmutableRef | null> {
    const image = await this.#resolved(context);
    const layers = image.layers.slice(0, this.#wish.layerLimit);
    const origin = this.#origin(context);
    const { name } = origin;
    const provider: BlobProvider = {
      open: (descriptor, offset, options) => origin.open(descriptor, offset, options),
      progress: layerProgress(context.progress),
    };
    let current: ImmutableRef | undefined;
    try {
      for (const [i, layer] of layers.entries()) {
        const parent: ImmutableRef | undefined = current;
        const isTop = i === layers.length - 1;
        current = await this.#services.refs.getByBlob(layer, parent, {
          provider,
          imageRef: name,
          description: `pulled from ${name}`,
          ...(isTop ? { type: this.#wish.recordType } : {}),
        });
        await parent?.release();
      }
    } catch (error) {
      await current?.release();
      throw error;
    }
    if (current) this.#keepManifests(current, image);
    return current ?? null;
  }

  /** Manifest and config live as long as the top layer's record. */
  #keepManifests(top: ImmutableRef, image: ResolvedImage): void {
    for (const { digest } of image.others)
      if (this.#services.content.has(digest))
        this.#services.leases.add(top.id, { kind: 'content', id: digest });
  }

  #resolved(context: OpContext): Promise<ResolvedImage> {
    this.#resolving ??= new SharedTask((signal) => this.#resolve(context, signal));
    return this.#resolving.join(context.signal);
  }

  async #resolve(context: OpContext, signal: AbortSignal): Promise<ResolvedImage> {
    const { platform, checksum, layerLimit } = this.#wish;
    const origin = this.#origin(context);
    const { name } = origin;
    const image = await oneOff(context.progress, `resolve ${name}`, () =>
      this.#services.resolver.resolve(origin, platform, signal),
    );
    if (checksum !== undefined && image.root.digest !== checksum)
      throw new BuildError(
        `image digest ${image.root.digest} for ${name} does not match expected checksum ${checksum}`,
      );
    if (layerLimit !== undefined && layerLimit > image.layers.length)
      throw new BuildError(
        `layer limit ${layerLimit} is greater than the number of layers in the image ${image.layers.length}`,
      );
    return image;
  }
}
