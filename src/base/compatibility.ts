import { BuildError } from './errors.ts';

/**
 * Versions of the bytes that exported images have (FEATURES B11), oldest first: those of BuildKit 0.13 and 0.14, of
 * 0.15 to 0.31, and of what came after. A build that asks for one gets images of the same digest as then.
 */
export const COMPATIBILITY_VERSIONS = [10, 20, 30] as const;

/** One of the versions. */
export type CompatibilityVersion = (typeof COMPATIBILITY_VERSIONS)[number];

export const CURRENT_VERSION = 30 satisfies CompatibilityVersion;

/** The version that a request asks for; 0 is the current one. @throws BuildError for one that nobody knows */
export function compatibilityVersion(asked: number): CompatibilityVersion {
  if (asked === 0) return CURRENT_VERSION;
  const known = COMPATIBILITY_VERSIONS.find((version) => version === asked);
  if (known) return known;
  const what = `unsupported compatibility-version ${asked}`;
  throw new BuildError(
    asked > CURRENT_VERSION
      ? `${what}: upgrade buildkit (max supported: ${CURRENT_VERSION})`
      : `${what} (supported: [${COMPATIBILITY_VERSIONS.join(' ')}])`,
  );
}

/** What a version cannot have, as an error that clients know by its detail. */
export function unsupportedFeature(version: CompatibilityVersion, feature: string): BuildError {
  return new BuildError(`unsupported compatibility-version ${version} feature ${feature}`, {
    details: [{ type: 'errdefs.CompatibilityFeature', value: { version, feature } }],
  });
}

/** Files of checkouts could be written by everybody. */
export function hasWritableCheckouts(version: CompatibilityVersion): boolean {
  return version === 10;
}

/** zstd made other bytes than it does today. */
export function hasOldZstd(version: CompatibilityVersion): boolean {
  return version === 10;
}

/** Media types are OCI's, and attestations are artifacts, where the user does not say. */
export function prefersOci(version: CompatibilityVersion): boolean {
  return version >= 30;
}
