import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError, Code, notFound } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type ImageIndex, type Manifest, parseManifest } from '../oci/manifest.ts';
import { isManifestType, mediaTypeOciIndex } from '../oci/media-types.ts';
import { formatPlatformFull, type Platform } from '../oci/platform.ts';
import { PlatformMatcher } from '../oci/platform-match.ts';
import type { ImageOrigin } from './image-origin.ts';

const REFERENCE_TYPE = 'vnd.docker.reference.type';
const REFERENCE_DIGEST = 'vnd.docker.reference.digest';
const PREDICATE_TYPE = 'in-toto.io/predicate-type';
const SIGSTORE_BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const COSIGN_SIGNATURE = 'application/vnd.dev.cosign.artifact.sig.v1+json';
/** All blobs of an answer, bytes: it must fit one message. */
const MAX_CHAIN_BYTES = 15 << 20;

export interface ChainBlob {
  readonly descriptor: Descriptor;
  readonly data: Uint8Array;
}

/** What is said of an image of one platform, and who has signed that (FEATURES I12). */
export interface AttestationChain {
  readonly root: Digest;
  readonly imageManifest: Digest;
  readonly attestationManifest?: Digest;
  readonly signatureManifests: readonly Digest[];
  /** Everything that it takes to check them, and the statements that were asked for. */
  readonly blobs: ReadonlyMap<Digest, ChainBlob>;
}

/**
 * Looks up what is said of an image. undefined for one that is no index. @param predicateTypes of the statements
 * that are wanted themselves @throws notFound when the index has nothing for the platform
 */
export async function resolveAttestationChain(
  origin: ImageOrigin,
  platform: Platform,
  predicateTypes: readonly string[],
  signal: AbortSignal,
): Promise<AttestationChain | undefined> {
  const root = await origin.resolve(signal);
  if (root.mediaType !== mediaTypeOciIndex) return undefined;
  const reader = new ChainReader(origin, signal);
  const index = await reader.manifest(root);
  if (index.kind !== 'index') return undefined;
  const image = imageFor(index, platform);
  const said = index.manifests.find(
    ({ annotations = {} }) =>
      annotations[REFERENCE_TYPE] === 'attestation-manifest' &&
      annotations[REFERENCE_DIGEST] === image.digest,
  );
  const chain = { root: root.digest, imageManifest: image.digest, blobs: reader.blobs };
  if (!said) return { ...chain, signatureManifests: [] };
  const manifest = await reader.manifest(said);
  const signature = await signatureOf(origin, said.digest, signal);
  const signed = signature && (await reader.manifest(signature));
  if (signed?.kind === 'manifest') for (const layer of signed.layers) await reader.read(layer);
  for (const layer of wantedLayers(manifest, predicateTypes)) await reader.read(layer);
  return {
    ...chain,
    attestationManifest: said.digest,
    signatureManifests: signature ? [signature.digest] : [],
  };
}

function imageFor({ manifests }: ImageIndex, platform: Platform): Descriptor {
  const matcher = new PlatformMatcher(platform);
  const images = manifests.filter(({ mediaType }) => isManifestType(mediaType));
  const named = images.filter((one) => one.platform);
  const found = matcher.sort(named, (one) => one.platform!)[0] ?? images.find((one) => !one.platform);
  if (found) return found;
  throw notFound(`no manifest for platform ${formatPlatformFull(platform)}: not found`);
}

/** A bundle tells more than a bare signature. */
async function signatureOf(
  origin: ImageOrigin,
  digest: Digest,
  signal: AbortSignal,
): Promise<Descriptor | undefined> {
  const referrers = (await origin.referrers?.(digest, signal)) ?? [];
  const ofType = (type: string) => referrers.find(({ artifactType }) => artifactType === type);
  return ofType(SIGSTORE_BUNDLE) ?? ofType(COSIGN_SIGNATURE);
}

function wantedLayers(manifest: Manifest | ImageIndex, types: readonly string[]): Descriptor[] {
  if (manifest.kind === 'index') return [];
  return manifest.layers.filter(({ annotations = {} }) => types.includes(annotations[PREDICATE_TYPE] ?? ''));
}

class ChainReader {
  readonly blobs = new Map<Digest, ChainBlob>();
  readonly #origin: ImageOrigin;
  readonly #signal: AbortSignal;
  #left = MAX_CHAIN_BYTES;

  constructor(origin: ImageOrigin, signal: AbortSignal) {
    this.#origin = origin;
    this.#signal = signal;
  }

  async manifest(descriptor: Descriptor): Promise<Manifest | ImageIndex> {
    return parseManifest(await this.read(descriptor), descriptor.mediaType);
  }

  async read(descriptor: Descriptor): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    const known = this.blobs.get(digest);
    if (known) return known.data;
    if (size > this.#left)
      throw new BuildError(`attestations of ${this.#origin.name} are larger than ${MAX_CHAIN_BYTES} bytes`, {
        code: Code.resourceExhausted,
      });
    this.#left -= size;
    const data = await this.#origin.fetchAll(descriptor, this.#signal, size);
    if (digestOf(data) !== digest) throw new BuildError(`digest mismatch for blob ${digest}`);
    this.blobs.set(digest, { descriptor, data });
    return data;
  }
}
