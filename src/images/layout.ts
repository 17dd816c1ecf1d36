import { randomUUID } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, digestOf } from '../base/digest.ts';
import { BuildError, Code, errno, notFound } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import {
  annotationName,
  annotationRef,
  insertEntry,
  LAYOUT_VERSION,
  readIndex,
} from '../ocilayout/entries.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { descriptorToJson, MAX_MANIFEST_BYTES, parseDescriptor } from '../oci/manifest.ts';
import type { CallOptions, ImageLocation, OpenBlob, WriteResult } from './location.ts';
import { withDigestCheck } from './verify.ts';

/**
 * A folder of images (image-spec, Image Layout). It is made when something is written. Writes are complete or not
 * there; two processes must not give names in one folder at the same time.
 */
export class Layout {
  readonly path: string;
  readonly #index = new Semaphore(1);

  constructor(path: string) {
    this.path = path;
  }

  /** The image of that tag; without one, the only image of the folder, or the last that was put there. */
  image(tag?: string): ImageLocation {
    return new LayoutImage(this, tag);
  }

  /** All images: their descriptors have the tag as `org.opencontainers.image.ref.name`. None: an empty folder. */
  images(): readonly Descriptor[] {
    return readIndex(join(this.path, 'index.json')).manifests.map((entry, i) =>
      parseDescriptor(entry, `index.json manifests[${i}]`),
    );
  }

  /** Puts a small blob into the folder: a config, or a layer made in memory. */
  async put(mediaType: string, data: Uint8Array): Promise<Descriptor> {
    const descriptor = { mediaType, digest: digestOf(data), size: data.length };
    await this.write(descriptor, async function* (offset) {
      yield data.subarray(offset);
    });
    return descriptor;
  }

  async has({ digest, size }: Descriptor): Promise<boolean> {
    try {
      return (await stat(this.#blob(digest))).size === size;
    } catch (error) {
      if (errno(error) === 'ENOENT') return false;
      throw error;
    }
  }

  async *read(
    descriptor: Descriptor,
    { signal, offset = 0 }: CallOptions & { readonly offset?: number } = {},
  ): AsyncGenerator<Uint8Array> {
    if (!(await this.has(descriptor)))
      throw notFound(
        `blob ${descriptor.digest} of ${descriptor.size} bytes is not in ${this.path}: not found`,
      );
    const content = createReadStream(this.#blob(descriptor.digest), {
      start: offset,
      ...(signal ? { signal } : {}),
    });
    yield* offset === 0 ? withDigestCheck(content, descriptor) : content;
  }

  async write(descriptor: Descriptor, source: OpenBlob, { signal }: CallOptions = {}): Promise<WriteResult> {
    if (await this.has(descriptor)) return 'exists';
    const path = this.#blob(descriptor.digest);
    await mkdir(join(path, '..'), { recursive: true });
    const temporary = `${path}.${randomUUID()}`;
    try {
      await using file = await open(temporary, 'wx', 0o644);
      for await (const chunk of withDigestCheck(source(0), descriptor)) {
        signal?.throwIfAborted();
        await file.writeFile(chunk);
      }
      await file.sync();
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    return 'uploaded';
  }

  /** Lets a tag mean a manifest that is here. A tag that is a full reference is found by it and by its own tag. */
  async tag(descriptor: Descriptor, tag: string | undefined): Promise<void> {
    using _alone = await this.#index.acquire();
    mkdirSync(this.path, { recursive: true });
    await writeFile(join(this.path, 'oci-layout'), LAYOUT_VERSION);
    const path = join(this.path, 'index.json');
    const index = readIndex(path);
    const entry = descriptorToJson(descriptor) as unknown as Descriptor;
    if (tag === undefined) {
      index.manifests = [...index.manifests.filter((one) => one.digest !== entry.digest), entry];
    } else insertEntry(index.manifests, entry, tag.includes('/') ? { name: tag } : { tag });
    await writeFile(`${path}.new`, JSON.stringify(index));
    await rename(`${path}.new`, path);
  }

  #blob(digest: Digest): string {
    return join(this.path, 'blobs', digestAlgorithm(digest), digestHex(digest));
  }
}

class LayoutImage implements ImageLocation {
  readonly name: string;
  readonly #layout: Layout;
  readonly #tag: string | undefined;

  constructor(layout: Layout, tag: string | undefined) {
    this.name = tag === undefined ? layout.path : `${layout.path}:${tag}`;
    this.#layout = layout;
    this.#tag = tag;
  }

  async resolve(): Promise<Descriptor> {
    const found = this.#find();
    if (!found) throw notFound(`${this.name}: not found`);
    const { annotations: _names, ...descriptor } = found;
    return descriptor;
  }

  read(
    descriptor: Descriptor,
    options?: CallOptions & { readonly offset?: number },
  ): AsyncIterable<Uint8Array> {
    return this.#layout.read(descriptor, options);
  }

  async readAll(
    descriptor: Descriptor,
    { maxBytes = MAX_MANIFEST_BYTES, ...options }: CallOptions & { readonly maxBytes?: number } = {},
  ): Promise<Uint8Array> {
    if (descriptor.size > maxBytes)
      throw new BuildError(`blob ${descriptor.digest} is too large`, { code: Code.resourceExhausted });
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.#layout.read(descriptor, options)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  write(descriptor: Descriptor, open: OpenBlob, options?: CallOptions): Promise<WriteResult> {
    return this.#layout.write(descriptor, open, options);
  }

  async publish(root: Descriptor, data: Uint8Array, options?: CallOptions): Promise<void> {
    const open = async function* (offset: number): AsyncGenerator<Uint8Array> {
      yield data.subarray(offset);
    };
    await this.#layout.write(root, open, options);
    await this.#layout.tag(root, this.#tag);
  }

  async holds(root: Digest): Promise<boolean> {
    const found = this.#find();
    return found?.digest === root && (await this.#layout.has(found));
  }

  #find(): Descriptor | undefined {
    const tag = this.#tag;
    return this.#layout
      .images()
      .findLast(
        ({ digest, annotations }) =>
          tag === undefined ||
          tag === digest ||
          tag === annotations?.[annotationRef] ||
          tag === annotations?.[annotationName],
      );
  }
}
