import { BuildError, Code, hasCode, notFound } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type ImageIndex, type Manifest, parseManifest } from '../oci/manifest.ts';
import { hostPlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import { PlatformMatcher } from '../oci/platform-match.ts';
import type { CallOptions, ImageLocation } from './location.ts';

/** Configs of images are seldom larger than some kilobytes; a cache inside makes them so. */
const MAX_CONFIG_BYTES = 64 << 20;

/** Which image of an index is meant. */
export interface PlatformOptions extends CallOptions {
  /** `linux/arm64/v8`; default that of this machine. */
  readonly platform?: string;
}

/** An image's configuration (image-spec config.md) as its JSON has it; only what every image has is required. */
export interface ImageConfigFile {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly created?: string;
  readonly author?: string;
  readonly config?: {
    readonly User?: string;
    readonly ExposedPorts?: Readonly<Record<string, object>> | null;
    readonly Env?: readonly string[] | null;
    readonly Entrypoint?: readonly string[] | null;
    readonly Cmd?: readonly string[] | null;
    readonly Volumes?: Readonly<Record<string, object>> | null;
    readonly WorkingDir?: string;
    readonly Labels?: Readonly<Record<string, string>> | null;
    readonly StopSignal?: string;
  };
  readonly rootfs: { readonly type: string; readonly diff_ids: readonly string[] | null };
  readonly history?:
    | readonly {
        readonly created?: string;
        readonly created_by?: string;
        readonly comment?: string;
        readonly empty_layer?: boolean;
      }[]
    | null;
}

/** One image of one platform. */
export interface Image {
  /** Of the manifest. */
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  readonly config: ImageConfigFile;
  /** The index it was chosen from. */
  readonly index?: ImageIndex;
}

/** Manifest and config of an image; of an index the best image for the platform. @throws when there is none */
export async function readImage(location: ImageLocation, options: PlatformOptions = {}): Promise<Image> {
  const root = await location.resolve(options);
  const { descriptor, manifest, index } = await manifestFor(location, root, options);
  const data = await location.readAll(manifest.config, { ...options, maxBytes: MAX_CONFIG_BYTES });
  const config = JSON.parse(Buffer.from(data).toString()) as ImageConfigFile;
  return { descriptor, manifest, config, ...(index ? { index } : {}) };
}

/** Down to the manifest of one platform. */
export async function manifestFor(
  location: ImageLocation,
  root: Descriptor,
  options: PlatformOptions,
): Promise<{ descriptor: Descriptor; manifest: Manifest; index?: ImageIndex }> {
  const parsed = parseManifest(await location.readAll(root, options), root.mediaType);
  if (parsed.kind === 'manifest') return { descriptor: root, manifest: parsed };
  const wanted = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const chosen = choose(parsed, wanted);
  if (!chosen)
    throw notFound(
      `${location.name}: no match for platform ${options.platform ?? 'of this machine'}: not found`,
    );
  const manifest = parseManifest(await location.readAll(chosen, options), chosen.mediaType);
  if (manifest.kind === 'index')
    throw new BuildError(`${location.name}: ${chosen.digest} is an index in an index`, {
      code: Code.unimplemented,
    });
  return { descriptor: chosen, manifest, index: parsed };
}

function choose(index: ImageIndex, wanted: Platform): Descriptor | undefined {
  const candidates = index.manifests.filter(({ platform }) => platform !== undefined);
  const [best] = new PlatformMatcher(wanted).sort(candidates, ({ platform }) => platform!);
  return best ?? (index.manifests.length === 1 ? index.manifests[0] : undefined);
}

/** An error of this library that says that something does not exist. */
export function isNotFound(error: unknown): boolean {
  return hasCode(error, Code.notFound);
}
