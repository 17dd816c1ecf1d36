import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { Digest } from '../base/digest.ts';
import {
  annotationTocDigest,
  annotationUncompressed,
  annotationUncompressedSize,
  type Descriptor,
} from '../oci/descriptor.ts';
import { type ImageIndex, type Manifest, parseManifest } from '../oci/manifest.ts';
import {
  isForeignLayer,
  isIndexType,
  isManifestType,
  layerForm,
  mediaTypeCacheConfig,
  mediaTypeDockerConfig,
  mediaTypeInToto,
  mediaTypeOciConfig,
  mediaTypeOciEmpty,
} from '../oci/media-types.ts';
import { formatPlatform, type Platform, platformFromJson } from '../oci/platform.ts';
import { decompressed, Measured } from './measured.ts';
import { tocDigest } from './toc.ts';

const REFERENCE_TYPE = 'vnd.docker.reference.type';
const REFERENCE_DIGEST = 'vnd.docker.reference.digest';
const PREDICATE_TYPE = 'in-toto.io/predicate-type';
const UNKNOWN = 'unknown/unknown';
/** Manifests, configs and statements. */
const MAX_SMALL_BYTES = 64 << 20;

/** Where the blobs of an image are read. */
export interface CheckOptions {
  /** All bytes of a blob, at once or in parts; undefined when it is not there. */
  readonly read: (descriptor: Descriptor) => BlobContent | undefined | Promise<BlobContent | undefined>;
}

/** A blob as a whole, or in parts. */
export type BlobContent = Uint8Array | AsyncIterable<Uint8Array>;

/** What a checked image is made of. */
export interface CheckedImage {
  /** The index of several, undefined for a manifest alone. */
  readonly index: ImageIndex | undefined;
  /** Its images, one for each platform. */
  readonly images: readonly { readonly descriptor: Descriptor; readonly manifest: Manifest }[];
  /** What is said of its images. */
  readonly attestations: readonly CheckedAttestations[];
  /** Every blob that was reached. */
  readonly digests: ReadonlySet<Digest>;
}

/** All statements of one attestation manifest. */
export interface CheckedAttestations {
  /** The manifest that is spoken of. */
  readonly target: Digest;
  readonly statements: readonly Statement[];
}

/** An in-toto statement. */
export interface Statement {
  readonly _type: string;
  readonly predicateType: string;
  readonly subject: readonly { readonly name: string; readonly digest: Readonly<Record<string, string>> }[];
  readonly predicate: unknown;
}

/** What `validateImage` found. */
export interface ImageReport extends CheckedImage {
  /** What does not agree, one sentence each; empty for an image that is whole. */
  readonly problems: readonly string[];
}

/**
 * Reads everything below `root` and reports what is not there or does not agree: digests, sizes, media types,
 * platforms, configs, diff IDs against the unpacked layers, histories, and what attestations speak of. Layers are
 * read as streams: memory does not grow with them. Also takes the manifest of a build cache.
 * @throws what `read` throws, but for errors with `isNotFound` and content that is not what its digest says
 */
export async function validateImage(root: Descriptor, options: CheckOptions): Promise<ImageReport> {
  const check = new ImageCheck(options);
  const parsed = await check.manifest(root);
  const { problems, digests } = check;
  const empty = { index: undefined, images: [], attestations: [], digests, problems };
  if (parsed === undefined) return empty;
  if (parsed.kind === 'index') return { ...(await check.index(parsed)), problems };
  if (parsed.config.mediaType === mediaTypeCacheConfig) {
    await check.cache(parsed);
    return empty;
  }
  await check.image(root, parsed);
  return { ...empty, images: [{ descriptor: root, manifest: parsed }] };
}

/** Like `validateImage`, for those who want no other images. @throws Error that names all problems */
export async function checkImage(root: Descriptor, options: CheckOptions): Promise<CheckedImage> {
  const { problems, ...image } = await validateImage(root, options);
  if (problems.length === 0) return image;
  throw new BuildError(`broken image: ${problems.join('; ')}`, { code: Code.failedPrecondition });
}

class ImageCheck {
  readonly digests = new Set<Digest>();
  readonly problems: string[] = [];
  readonly #options: CheckOptions;

  constructor(options: CheckOptions) {
    this.#options = options;
  }

  /** Notes `problem` unless `condition` holds. */
  #ensure(condition: unknown, problem: string): boolean {
    if (!condition) this.problems.push(problem);
    return Boolean(condition);
  }

  async manifest(descriptor: Descriptor): Promise<Manifest | ImageIndex | undefined> {
    const { mediaType, digest } = descriptor;
    const isKnown = isManifestType(mediaType) || isIndexType(mediaType);
    if (!this.#ensure(isKnown, `${digest} is no manifest: ${mediaType}`)) return undefined;
    const data = await this.#small(descriptor);
    if (data === undefined) return undefined;
    try {
      const { mediaType: named, schemaVersion } = JSON.parse(Buffer.from(data).toString());
      this.#ensure(named === mediaType, `${digest} calls itself ${named}, its descriptor ${mediaType}`);
      this.#ensure(schemaVersion === 2, `${digest} has schemaVersion ${schemaVersion}`);
      return parseManifest(data, mediaType);
    } catch (error) {
      this.problems.push(`${digest}: ${BuildError.from(error).message}`);
      return undefined;
    }
  }

  async index(index: ImageIndex): Promise<CheckedImage> {
    const images: CheckedImage['images'][number][] = [];
    const said: Descriptor[] = [];
    for (const descriptor of index.manifests) {
      const { digest, annotations } = descriptor;
      this.#ensure(descriptor.platform, `${digest} has no platform in its index`);
      if (annotations?.[REFERENCE_TYPE] === 'attestation-manifest') {
        said.push(descriptor);
        continue;
      }
      this.#ensure(said.length === 0, `${digest} stands behind an attestation manifest`);
      const manifest = await this.manifest(descriptor);
      if (!manifest) continue;
      if (manifest.kind === 'index') {
        this.problems.push(`${digest} is an index in an index`);
        continue;
      }
      await this.image(descriptor, manifest);
      images.push({ descriptor, manifest });
    }
    const platforms = images.map(({ descriptor }) => platformText(descriptor.platform));
    const isUnique = new Set(platforms).size === platforms.length;
    this.#ensure(isUnique, `platforms repeat: ${platforms.join(', ')}`);
    const targets = new Map(images.map(({ descriptor }) => [descriptor.digest, descriptor]));
    const attestations: CheckedAttestations[] = [];
    for (const descriptor of said) {
      const found = await this.#attestations(descriptor, targets);
      if (found) attestations.push(found);
    }
    return { index, images, attestations, digests: this.digests };
  }

  async image(descriptor: Descriptor, manifest: Manifest): Promise<void> {
    const { digest, platform } = descriptor;
    const isOci = manifest.mediaType.includes('vnd.oci');
    const { mediaType } = manifest.config;
    const wanted = isOci ? mediaTypeOciConfig : mediaTypeDockerConfig;
    this.#ensure(mediaType === wanted, `${digest} has a config of type ${mediaType}`);
    const config = await this.#json<ConfigFields>(manifest.config);
    if (!config) return;
    const own = platformText(platformFromJson(config));
    const told = platform ? platformText(platform) : own;
    this.#ensure(own === told, `${digest} is for ${told}, its config for ${own}`);
    const { rootfs, history = [] } = config;
    this.#ensure(rootfs?.type === 'layers', `${digest} has a rootfs of type ${rootfs?.type}`);
    const diffIds = rootfs?.diff_ids ?? [];
    const { layers } = manifest;
    this.#ensure(
      diffIds.length === layers.length,
      `${digest} has ${layers.length} layers and ${diffIds.length} diff IDs`,
    );
    for (const [i, layer] of layers.entries()) await this.#layer(layer, diffIds[i], isOci);
    const filled = (history ?? []).filter(({ empty_layer: empty }) => !empty).length;
    this.#ensure(
      !history?.length || filled === diffIds.length,
      `${digest} has a history of ${filled} layers instead of ${diffIds.length}`,
    );
  }

  /** The image manifest of a build cache: its layers say themselves what they unpack to. */
  async cache(manifest: Manifest): Promise<void> {
    await this.#json(manifest.config);
    const once = new Map(manifest.layers.map((layer) => [layer.digest, layer]));
    for (const layer of once.values())
      await this.#layer(layer, layer.annotations?.[annotationUncompressed], true);
  }

  async #layer(layer: Descriptor, diffId: string | undefined, isOci: boolean): Promise<void> {
    const form = layerForm(layer.mediaType);
    if (!this.#ensure(form?.oci === isOci, `layer ${layer.digest} has type ${layer.mediaType}`) || !form)
      return;
    const content = await this.#open(layer);
    if (content === undefined && isForeignLayer(layer.mediaType)) return; // it may lie elsewhere
    if (content === undefined) {
      this.problems.push(`${layer.digest} is missing`);
      return;
    }
    const packed = new Measured(content);
    const plain = new Measured(decompressed(packed.read(), form.compression));
    try {
      for await (const _ of plain.read());
    } catch (error) {
      if (packed.failed) this.#unread(error);
      else this.problems.push(`layer ${layer.digest} does not unpack: ${BuildError.from(error).message}`);
      return;
    }
    this.#agrees(layer, packed);
    const unpacked = plain.digest();
    this.#ensure(unpacked === diffId, `layer ${layer.digest} unpacks to ${unpacked} and not to ${diffId}`);
    await this.#estargz(layer, packed.tail(), plain.size);
  }

  /** What the annotations of an estargz layer say of it. */
  async #estargz({ annotations = {}, ...layer }: Descriptor, tail: Uint8Array, size: number): Promise<void> {
    const { [annotationTocDigest]: told, [annotationUncompressedSize]: toldSize } = annotations;
    const isSize = toldSize === undefined || toldSize === String(size);
    this.#ensure(isSize, `layer ${layer.digest} unpacks to ${size} bytes and not to ${toldSize}`);
    const content = told === undefined ? undefined : await this.#open(layer);
    if (content === undefined) return;
    const found = await tocDigest(content, tail);
    this.#ensure(
      found === told,
      `layer ${layer.digest} has ${found ? `table of contents ${found}` : 'no table of contents'} and not ${told}`,
    );
  }

  async #attestations(
    descriptor: Descriptor,
    targets: ReadonlyMap<string, Descriptor>,
  ): Promise<CheckedAttestations | undefined> {
    const { digest, annotations = {} } = descriptor;
    this.#ensure(platformText(descriptor.platform) === UNKNOWN, `${digest} is for a platform`);
    const about = annotations[REFERENCE_DIGEST];
    const target = targets.get(about ?? '');
    this.#ensure(target, `${digest} speaks of ${about}, which is not in the index`);
    const manifest = await this.manifest(descriptor);
    if (!target || !manifest) return undefined;
    if (manifest.kind === 'index') {
      this.problems.push(`${digest} is an index`);
      return undefined;
    }
    await this.#attestationConfig(digest, manifest, target);
    const statements: Statement[] = [];
    for (const layer of manifest.layers) {
      const statement = await this.#statement(layer, target);
      if (statement) statements.push(statement);
    }
    return { target: target.digest, statements };
  }

  async #statement(layer: Descriptor, target: Descriptor): Promise<Statement | undefined> {
    const { digest, mediaType } = layer;
    this.#ensure(mediaType === mediaTypeInToto, `statement ${digest} has type ${mediaType}`);
    const statement = await this.#json<Statement>(layer);
    if (!statement) return undefined;
    const told = layer.annotations?.[PREDICATE_TYPE];
    const { predicateType } = statement;
    this.#ensure(predicateType === told, `statement ${digest} of ${predicateType} is annotated ${told}`);
    for (const subject of statement.subject ?? [])
      this.#ensure(
        !subject.name.startsWith('pkg:docker/') || `sha256:${subject.digest.sha256}` === target.digest,
        `statement ${digest} is about ${subject.digest.sha256} and not about ${target.digest}`,
      );
    return statement;
  }

  async #attestationConfig(digest: string, manifest: Manifest, target: Descriptor): Promise<void> {
    const { config, subject, artifactType } = manifest;
    if (artifactType === undefined) {
      const image = await this.#json<ConfigFields>(config);
      if (!image) return;
      this.#ensure(
        platformText(platformFromJson(image)) === UNKNOWN,
        `${digest} has a config with a platform`,
      );
      const layers = manifest.layers.map((layer) => layer.digest).join();
      this.#ensure(layers === image.rootfs?.diff_ids?.join(), `${digest} has other layers than its config`);
      return;
    }
    const data = await this.#small(config);
    const isEmpty = config.mediaType === mediaTypeOciEmpty && data && Buffer.from(data).toString() === '{}';
    this.#ensure(isEmpty, `${digest} has a config that is not empty`);
    this.#ensure(
      subject?.digest === target.digest &&
        subject.size === target.size &&
        subject.mediaType === target.mediaType,
      `${digest} has subject ${subject?.digest} and speaks of ${target.digest}`,
    );
  }

  async #json<T>(descriptor: Descriptor): Promise<T | undefined> {
    const data = await this.#small(descriptor);
    if (data === undefined) return undefined;
    try {
      return JSON.parse(Buffer.from(data).toString()) as T;
    } catch {
      this.problems.push(`${descriptor.digest} is no JSON`);
      return undefined;
    }
  }

  /** A blob that is kept in memory. */
  async #small(descriptor: Descriptor): Promise<Uint8Array | undefined> {
    const content = await this.#open(descriptor);
    if (content === undefined) {
      this.problems.push(`${descriptor.digest} is missing`);
      return undefined;
    }
    const measured = new Measured(content);
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of measured.read()) {
        chunks.push(chunk);
        if (measured.size > MAX_SMALL_BYTES)
          throw new BuildError(`${descriptor.digest} is larger than ${MAX_SMALL_BYTES} bytes`, {
            code: Code.failedPrecondition,
          });
      }
    } catch (error) {
      this.#unread(error);
      return undefined;
    }
    return this.#agrees(descriptor, measured) ? Buffer.concat(chunks) : undefined;
  }

  async #open(descriptor: Descriptor): Promise<BlobContent | undefined> {
    try {
      return await this.#options.read(descriptor);
    } catch (error) {
      if (hasCode(error, Code.notFound)) return undefined;
      throw error;
    }
  }

  /** What is not there, or is something else, is the image's fault; the rest is the reader's. */
  #unread(error: unknown): void {
    if (!hasCode(error, Code.notFound) && !hasCode(error, Code.failedPrecondition)) throw error;
    this.problems.push(BuildError.from(error).message);
  }

  #agrees({ digest, size }: Descriptor, content: Measured): boolean {
    this.digests.add(digest);
    const isSize = this.#ensure(
      content.size === size,
      `${digest} has ${content.size} bytes instead of ${size}`,
    );
    const actual = content.digest();
    return this.#ensure(actual === digest, `${digest} is in truth ${actual}`) && isSize;
  }
}

interface ConfigFields {
  readonly rootfs?: { readonly type?: string; readonly diff_ids?: readonly string[] | null };
  readonly history?: readonly { readonly empty_layer?: boolean }[] | null;
}

function platformText(platform: Platform | undefined): string {
  return platform ? formatPlatform(platform) : '';
}
