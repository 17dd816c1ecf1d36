import type { Digest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { SharedTask } from '../base/shared-task.ts';
import type { BlobProvider, ImmutableRef, RefManager } from '../cache/ref.ts';
import type { Platform } from '../oci/platform.ts';
import { formatReference } from '../oci/reference.ts';
import type { Credentials } from '../registry/credentials.ts';
import type { Registry } from '../registry/registry.ts';
import type { OpContext } from '../solver/types.ts';
import type { ContentStore } from '../store/content.ts';
import type { LeaseStore } from '../store/lease.ts';
import type { ImageMemo, ImageResolver, ResolvedImage } from './image-resolver.ts';
import type { ImageSourceSpec } from './image-spec.ts';
import { layerProgress, oneOff } from './progress.ts';
import type { SourceInstance, SourceKey } from './source.ts';

/** The keys of FEATURES E10, which are the graph's affair. */
export interface ImageKeys {
  manifestKey(input: { digest: Digest; platform: Platform; layerLimit?: number }): Digest;
  /** undefined for an image without layers. */
  configKey(diffIds: readonly Digest[], layerLimit?: number): Digest | undefined;
}

export interface ImageSourceServices {
  readonly registry: Pick<Registry, 'fetch'>;
  readonly resolver: ImageResolver;
  readonly refs: Pick<RefManager, 'getByBlob'>;
  readonly leases: Pick<LeaseStore, 'add'>;
  readonly content: Pick<ContentStore, 'has'>;
  readonly keys: ImageKeys;
  /** Credentials of the sessions that want the step; `sessions` is asked anew each time. */
  readonly credentials: (sessions: () => readonly string[]) => Credentials;
  /** What these sessions' builds have resolved before (FEATURES E29). */
  readonly memo?: (sessions: readonly string[]) => ImageMemo | undefined;
}

/** An image of a registry; its layers stay there until somebody mounts them (FEATURES D35). */
export class ImageSource implements SourceInstance {
  readonly #spec: ImageSourceSpec;
  readonly #services: ImageSourceServices;
  #resolving: SharedTask<ResolvedImage> | undefined;

  constructor(spec: ImageSourceSpec, services: ImageSourceServices) {
    this.#spec = spec;
    this.#services = services;
  }

  /** Index 0: manifest and platform. Index 1: the chain of layers, the same under any name. */
  async cacheKey(index: number, context: OpContext): Promise<SourceKey> {
    const { platform, layerLimit } = this.#spec;
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
    const layers = image.layers.slice(0, this.#spec.layerLimit);
    const name = formatReference(this.#spec.reference);
    const provider = this.#provider(context);
    let current: ImmutableRef | undefined;
    try {
      for (const [i, layer] of layers.entries()) {
        const parent: ImmutableRef | undefined = current;
        const isTop = i === layers.length - 1;
        current = await this.#services.refs.getByBlob(layer, parent, {
          provider,
          imageRef: name,
          description: `pulled from ${name}`,
          ...(isTop ? { type: this.#spec.recordType } : {}),
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

  #provider(context: OpContext): BlobProvider {
    const { registry } = this.#services;
    const { reference } = this.#spec;
    const credentials = this.#services.credentials(context.sessions);
    const log = logLine(context);
    return {
      open: (descriptor, offset, { signal }) =>
        registry.fetch(reference, descriptor, offset, { credentials, signal, log }),
      progress: layerProgress(context.progress),
    };
  }

  #resolved(context: OpContext): Promise<ResolvedImage> {
    this.#resolving ??= new SharedTask((signal) => this.#resolve(context, signal));
    return this.#resolving.join(context.signal);
  }

  async #resolve(context: OpContext, signal: AbortSignal): Promise<ResolvedImage> {
    const { reference, platform, checksum, layerLimit } = this.#spec;
    const name = formatReference(reference);
    const memo = this.#services.memo?.(context.sessions());
    const image = await oneOff(context.progress, `resolve ${name}`, () =>
      this.#services.resolver.resolve(reference, platform, {
        signal,
        credentials: this.#services.credentials(context.sessions),
        log: logLine(context),
        ...(memo ? { memo } : {}),
      }),
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

function logLine(context: OpContext): (line: string) => void {
  return (line) => context.progress.log(2, Buffer.from(line));
}
