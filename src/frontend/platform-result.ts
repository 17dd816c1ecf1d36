import type { Attestations } from '../attest/attestation.ts';
import { goJson } from '../base/gojson.ts';
import {
  formatPlatformFull,
  hostPlatform,
  normalizePlatform,
  type Platform,
  platformToJson,
} from '../oci/platform.ts';
import type { FrontendResult } from './result.ts';

/** What was built for one platform. */
export interface PlatformTree<R> {
  /** undefined when the client asked for none: this machine's then. */
  readonly platform: Platform | undefined;
  /** null is the empty tree. */
  readonly ref: R | null;
  /** Platform that the image config says. */
  readonly imagePlatform: Platform;
  readonly config: Uint8Array;
  /** Config of the image that the tree stands on. */
  readonly baseConfig?: Uint8Array;
  /** Seconds since 1970. */
  readonly epoch?: bigint;
}

/** Name of a platform's tree in a result. */
export function platformId(platform: Platform | undefined): string {
  return formatPlatformFull(normalizePlatform(platform ?? hostPlatform()));
}

/**
 * The result of a build for platforms (FEATURES N14): a tree for each, or the only one, and what exporters have to know.
 * @param multiPlatform trees go by the id of their platform, also a single one
 */
export function platformResult<R>(
  trees: readonly PlatformTree<R>[],
  multiPlatform: boolean,
  attestations?: Attestations<R>,
): FrontendResult<R> {
  const metadata = new Map<string, Uint8Array>();
  const platforms = trees.map(({ platform, imagePlatform, config, baseConfig, epoch }) => {
    const id = platformId(platform);
    const put = (key: string, value: Uint8Array) => metadata.set(multiPlatform ? `${key}/${id}` : key, value);
    put('containerimage.config', config);
    if (baseConfig) put('containerimage.base.config', baseConfig);
    if (epoch !== undefined) put('source.date.epoch', Buffer.from(String(epoch)));
    const chosen = exportPlatform(normalizePlatform(platform ?? hostPlatform()), imagePlatform);
    return { ID: id, Platform: platformToJson(chosen) };
  });
  metadata.set('refs.platforms', Buffer.from(goJson({ Platforms: platforms })));
  const said = attestations ? { attestations } : {};
  if (!multiPlatform) return { ref: trees[0]?.ref ?? null, metadata, ...said };
  const refs = new Map(trees.map(({ platform, ref }) => [platformId(platform), ref]));
  return { ref: null, refs, metadata, ...said };
}

/** Windows images say which build of the system they need. */
function exportPlatform(platform: Platform, image: Platform): Platform {
  if (platform.os !== 'windows' || image.os !== 'windows') return platform;
  const osVersion = platform.osVersion || image.osVersion;
  const osFeatures = platform.osFeatures ?? image.osFeatures;
  return normalizePlatform({
    ...platform,
    ...(osVersion ? { osVersion } : {}),
    ...(osFeatures ? { osFeatures } : {}),
  });
}
