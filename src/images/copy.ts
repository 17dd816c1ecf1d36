import { Semaphore } from '../base/semaphore.ts';
import type { Digest } from '../base/digest.ts';
import { annotationDistributionSource, type Descriptor } from '../oci/descriptor.ts';
import { parseManifest } from '../oci/manifest.ts';
import { isForeignLayer, isIndexType, isManifestType } from '../oci/media-types.ts';
import type { ImageLocation, WriteResult } from './location.ts';
import { manifestFor, type PlatformOptions } from './read.ts';

/** Blobs that are copied side by side. */
const PARALLEL_BLOBS = 4;

/** What is copied, and who is told. */
export interface CopyOptions extends PlatformOptions {
  /** Only the image of this platform; default the whole index, attestations included. */
  readonly platform?: string;
  /** Told of every blob and manifest when it is at its place. */
  readonly onCopied?: (descriptor: Descriptor, how: WriteResult) => void;
}

/** What came of it. */
export interface Copied {
  /** What the target's name means now. */
  readonly root: Descriptor;
  /** Blobs and manifests that were sent; the others were there, or taken over within the registry. */
  readonly sent: number;
  /** Bytes of them. */
  readonly sentBytes: number;
}

/**
 * Copies an image between registries and layout folders, bytes unchanged, so that its digest stays. What is there is
 * not sent again; within one registry blobs are taken over from repository to repository.
 */
export async function copyImage(
  from: ImageLocation,
  to: ImageLocation,
  options: CopyOptions = {},
): Promise<Copied> {
  const resolved = await from.resolve(options);
  const isWhole = options.platform === undefined || !isIndexType(resolved.mediaType);
  const root = isWhole ? resolved : (await manifestFor(from, resolved, options)).descriptor;
  const { mediaType, digest, size } = root;
  const copier = new Copier(from, to, options);
  const bare: Descriptor = { mediaType, digest, size };
  if (await to.holds(digest, options)) copier.done(bare, 'exists');
  else await copier.all(bare);
  return { root: bare, sent: copier.sent, sentBytes: copier.sentBytes };
}

class Copier {
  sent = 0;
  sentBytes = 0;
  readonly #from: ImageLocation;
  readonly #to: ImageLocation;
  readonly #options: CopyOptions;

  constructor(from: ImageLocation, to: ImageLocation, options: CopyOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
  }

  /** Blobs first, then manifests, the root with its name last. */
  async all(root: Descriptor): Promise<void> {
    const manifests = new Map<Digest, { descriptor: Descriptor; data: Uint8Array }>();
    const blobs = new Map<Digest, Descriptor>();
    await this.#walk(root, manifests, blobs);
    await this.#blobs([...blobs.values()].filter(({ mediaType }) => !isForeignLayer(mediaType)));
    for (const { descriptor, data } of [...manifests.values()].toReversed()) {
      if (descriptor.digest === root.digest) continue;
      const open = async function* (offset: number): AsyncGenerator<Uint8Array> {
        yield data.subarray(offset);
      };
      this.done(descriptor, await this.#to.write(descriptor, open, this.#options));
    }
    await this.#to.publish(root, manifests.get(root.digest)!.data, this.#options);
    this.done(root, 'uploaded');
  }

  done(descriptor: Descriptor, how: WriteResult): void {
    if (how === 'uploaded') {
      this.sent++;
      this.sentBytes += descriptor.size;
    }
    this.#options.onCopied?.(descriptor, how);
  }

  async #walk(
    descriptor: Descriptor,
    manifests: Map<Digest, { descriptor: Descriptor; data: Uint8Array }>,
    blobs: Map<Digest, Descriptor>,
  ): Promise<void> {
    if (manifests.has(descriptor.digest)) return;
    const data = await this.#from.readAll(descriptor, this.#options);
    manifests.set(descriptor.digest, { descriptor, data });
    const parsed = parseManifest(data, descriptor.mediaType);
    if (parsed.kind === 'manifest') {
      for (const blob of [parsed.config, ...parsed.layers]) blobs.set(blob.digest, blob);
      return;
    }
    for (const child of parsed.manifests) {
      // Some indexes name blobs: caches do.
      const isManifest = isManifestType(child.mediaType) || isIndexType(child.mediaType);
      if (isManifest) await this.#walk(child, manifests, blobs);
      else blobs.set(child.digest, child);
    }
  }

  /** The first failure stops the others. */
  async #blobs(blobs: readonly Descriptor[]): Promise<void> {
    const stop = new AbortController();
    const signal = this.#options.signal ? AbortSignal.any([this.#options.signal, stop.signal]) : stop.signal;
    const slots = new Semaphore(PARALLEL_BLOBS);
    let first: unknown;
    await Promise.allSettled(
      blobs.map(async (blob) => {
        try {
          using _slot = await slots.acquire(signal);
          const open = (offset: number) => this.#from.read(blob, { offset, signal });
          this.done(blob, await this.#to.write(this.#withSource(blob), open, { signal }));
        } catch (error) {
          first ??= error;
          stop.abort();
        }
      }),
    );
    if (first !== undefined) throw first;
  }

  /** Says that the blob may be taken over from where it is read, if that is the same registry. */
  #withSource(blob: Descriptor): Descriptor {
    const { repository } = this.#from;
    if (!repository || repository.host !== this.#to.repository?.host) return blob;
    const key = `${annotationDistributionSource}.${repository.host}`;
    return { ...blob, annotations: { ...blob.annotations, [key]: repository.path } };
  }
}
