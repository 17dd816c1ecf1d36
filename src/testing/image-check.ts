import { createHash } from 'node:crypto';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { Digest } from '../base/digest.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type ImageIndex, type Manifest, parseManifest } from '../oci/manifest.ts';
import {
  isIndexType,
  isManifestType,
  layerForm,
  mediaTypeDockerConfig,
  mediaTypeInToto,
  mediaTypeOciConfig,
  mediaTypeOciEmpty,
} from '../oci/media-types.ts';
import { formatPlatform, type Platform, platformFromJson } from '../oci/platform.ts';

const REFERENCE_TYPE = 'vnd.docker.reference.type';
const REFERENCE_DIGEST = 'vnd.docker.reference.digest';
const PREDICATE_TYPE = 'in-toto.io/predicate-type';
const UNKNOWN = 'unknown/unknown';

export interface ImageCheckOptions {
  /** A blob by its digest; undefined when it is not there. */
  readonly read: (digest: Digest) => Promise<Uint8Array | undefined> | Uint8Array | undefined;
}

/** What a checked image is made of. */
export interface CheckedImage {
  /** The index of several, undefined for a manifest alone. */
  readonly index: ImageIndex | undefined;
  readonly images: readonly { readonly descriptor: Descriptor; readonly manifest: Manifest }[];
  readonly attestations: readonly CheckedAttestations[];
  /** Every blob that was reached. */
  readonly digests: ReadonlySet<Digest>;
}

export interface CheckedAttestations {
  /** The manifest that is spoken of. */
  readonly target: Digest;
  readonly statements: readonly Statement[];
}

export interface Statement {
  readonly _type: string;
  readonly predicateType: string;
  readonly subject: readonly { readonly name: string; readonly digest: Readonly<Record<string, string>> }[];
  readonly predicate: unknown;
}

/**
 * Checks that everything below `root` is there and agrees: digests, sizes, media types, platforms, diff IDs,
 * histories, and what attestations speak of. @throws Error that names the first thing that does not
 */
export async function checkImage(root: Descriptor, options: ImageCheckOptions): Promise<CheckedImage> {
  const check = new ImageCheck(options);
  const parsed = await check.manifest(root);
  if (parsed.kind === 'manifest') {
    await check.image(root, parsed);
    const images = [{ descriptor: root, manifest: parsed }];
    return { index: undefined, images, attestations: [], digests: check.digests };
  }
  return check.index(parsed);
}

class ImageCheck {
  readonly digests = new Set<Digest>();
  readonly #options: ImageCheckOptions;

  constructor(options: ImageCheckOptions) {
    this.#options = options;
  }

  async manifest(descriptor: Descriptor): Promise<Manifest | ImageIndex> {
    const { mediaType, digest } = descriptor;
    ensure(isManifestType(mediaType) || isIndexType(mediaType), `${digest} is no manifest: ${mediaType}`);
    const data = await this.#blob(descriptor);
    const named: unknown = JSON.parse(Buffer.from(data).toString()).mediaType;
    ensure(named === mediaType, `${digest} calls itself ${named}, its descriptor ${mediaType}`);
    return parseManifest(data, mediaType);
  }

  async index(index: ImageIndex): Promise<CheckedImage> {
    const images: CheckedImage['images'][number][] = [];
    const said: Descriptor[] = [];
    for (const descriptor of index.manifests) {
      ensure(descriptor.platform, `${descriptor.digest} has no platform in its index`);
      if (descriptor.annotations?.[REFERENCE_TYPE] === 'attestation-manifest') said.push(descriptor);
      else {
        ensure(said.length === 0, `${descriptor.digest} stands behind an attestation manifest`);
        const manifest = await this.manifest(descriptor);
        ensure(manifest.kind === 'manifest', `${descriptor.digest} is an index in an index`);
        await this.image(descriptor, manifest);
        images.push({ descriptor, manifest });
      }
    }
    const platforms = images.map(({ descriptor }) => platformText(descriptor.platform));
    ensure(new Set(platforms).size === platforms.length, `platforms repeat: ${platforms.join(', ')}`);
    const targets = new Map(images.map(({ descriptor }) => [descriptor.digest, descriptor]));
    const attestations: CheckedAttestations[] = [];
    for (const descriptor of said) attestations.push(await this.#attestations(descriptor, targets));
    return { index, images, attestations, digests: this.digests };
  }

  async image(descriptor: Descriptor, manifest: Manifest): Promise<void> {
    const { digest, platform } = descriptor;
    const isOci = manifest.mediaType.includes('vnd.oci');
    const wanted = isOci ? mediaTypeOciConfig : mediaTypeDockerConfig;
    const { mediaType } = manifest.config;
    ensure(mediaType === wanted, `${digest} has a config of type ${mediaType}`);
    const config = JSON.parse(Buffer.from(await this.#blob(manifest.config)).toString());
    if (platform) {
      const own = platformText(platformFromJson(config));
      ensure(
        own === platformText(platform),
        `${digest} is for ${platformText(platform)}, its config for ${own}`,
      );
    }
    ensure(config.rootfs?.type === 'layers', `${digest} has a rootfs of type ${config.rootfs?.type}`);
    const diffIds: string[] = config.rootfs.diff_ids ?? [];
    ensure(
      diffIds.length === manifest.layers.length,
      `${digest} has ${manifest.layers.length} layers and ${diffIds.length} diff IDs`,
    );
    for (const [i, layer] of manifest.layers.entries()) {
      const form = layerForm(layer.mediaType);
      ensure(form?.oci === isOci, `layer ${layer.digest} has type ${layer.mediaType}`);
      const diffId = sha256(unpacked(await this.#blob(layer), form.compression));
      ensure(diffId === diffIds[i], `layer ${layer.digest} unpacks to ${diffId} and not to ${diffIds[i]}`);
    }
    const history: { empty_layer?: boolean }[] = config.history ?? [];
    const filled = history.filter(({ empty_layer: empty }) => !empty).length;
    ensure(
      history.length === 0 || filled === diffIds.length,
      `${digest} has a history of ${filled} layers instead of ${diffIds.length}`,
    );
  }

  async #attestations(
    descriptor: Descriptor,
    targets: ReadonlyMap<string, Descriptor>,
  ): Promise<CheckedAttestations> {
    const { digest, annotations = {} } = descriptor;
    ensure(platformText(descriptor.platform) === UNKNOWN, `${digest} is for a platform`);
    const target = targets.get(annotations[REFERENCE_DIGEST] ?? '');
    ensure(target, `${digest} speaks of ${annotations[REFERENCE_DIGEST]}, which is not in the index`);
    const manifest = await this.manifest(descriptor);
    ensure(manifest.kind === 'manifest', `${digest} is an index`);
    await this.#attestationConfig(digest, manifest, target);
    const statements: Statement[] = [];
    for (const layer of manifest.layers) {
      ensure(layer.mediaType === mediaTypeInToto, `statement ${layer.digest} has type ${layer.mediaType}`);
      const statement: Statement = JSON.parse(Buffer.from(await this.#blob(layer)).toString());
      const told = layer.annotations?.[PREDICATE_TYPE];
      ensure(
        statement.predicateType === told,
        `statement ${layer.digest} of ${statement.predicateType} is annotated ${told}`,
      );
      for (const subject of statement.subject)
        ensure(
          !subject.name.startsWith('pkg:docker/') || `sha256:${subject.digest.sha256}` === target.digest,
          `statement ${layer.digest} is about ${subject.digest.sha256} and not about ${target.digest}`,
        );
      statements.push(statement);
    }
    return { target: target.digest, statements };
  }

  async #attestationConfig(digest: string, manifest: Manifest, target: Descriptor): Promise<void> {
    const { config, subject, artifactType } = manifest;
    const text = Buffer.from(await this.#blob(config)).toString();
    if (artifactType === undefined) {
      const image = JSON.parse(text);
      ensure(platformText(platformFromJson(image)) === UNKNOWN, `${digest} has a config with a platform`);
      const layers = manifest.layers.map((layer) => layer.digest);
      ensure(layers.join() === image.rootfs.diff_ids.join(), `${digest} has other layers than its config`);
      return;
    }
    ensure(
      config.mediaType === mediaTypeOciEmpty && text === '{}',
      `${digest} has a config that is not empty`,
    );
    ensure(
      subject?.digest === target.digest &&
        subject.size === target.size &&
        subject.mediaType === target.mediaType,
      `${digest} has subject ${subject?.digest} and speaks of ${target.digest}`,
    );
  }

  async #blob({ digest, size }: Descriptor): Promise<Uint8Array> {
    const data = await this.#options.read(digest);
    ensure(data, `${digest} is missing`);
    ensure(data.length === size, `${digest} has ${data.length} bytes instead of ${size}`);
    ensure(sha256(data) === digest, `${digest} is in truth ${sha256(data)}`);
    this.digests.add(digest);
    return data;
  }
}

function unpacked(data: Uint8Array, compression: 'uncompressed' | 'gzip' | 'zstd'): Uint8Array {
  if (compression === 'gzip') return gunzipSync(data);
  return compression === 'zstd' ? zstdDecompressSync(data) : data;
}

function platformText(platform: Platform | undefined): string {
  return platform ? formatPlatform(platform) : '';
}

function sha256(data: Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(data).digest('hex')}` as Digest;
}

function ensure(condition: unknown, problem: string): asserts condition {
  if (!condition) throw new Error(`broken image: ${problem}`);
}
