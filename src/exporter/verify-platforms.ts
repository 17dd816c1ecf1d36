import { BuildError } from '../base/errors.ts';
import {
  formatPlatform,
  formatPlatformFull,
  hostPlatform,
  normalizePlatform,
  type Platform,
  parsePlatform,
} from '../oci/platform.ts';
import type { ExportSource } from './exporter.ts';
import { isMultiRef, keyPlatforms, resultPlatforms } from './platforms.ts';

/**
 * What is wrong with the platforms of a result, as warnings. `requested` is the frontend's `platform` option,
 * separated by commas; undefined asks for this machine's.
 * @throws BuildError when the result does not say what its trees are for
 */
export function platformWarnings(source: ExportSource, requested: string | undefined): string[] {
  if (!source.metadata.has(keyPlatforms) && isMultiRef(source))
    throw new BuildError('build result contains multiple refs without platforms mapping');
  const built = resultPlatforms(source).map(({ platform }) => normalizePlatform(platform));
  const names = requested?.split(',') ?? [formatPlatform(normalizePlatform(hostPlatform()))];
  const wanted = new Map<string, Platform>();
  const bad: string[] = [];
  for (const name of names) {
    try {
      const platform = normalizePlatform(parsePlatform(name));
      const key = formatPlatformFull(platform);
      if (wanted.has(key)) bad.push(`Duplicate platform result requested ${JSON.stringify(name)}`);
      wanted.set(key, platform);
    } catch (error) {
      bad.push(
        `Invalid platform result requested ${JSON.stringify(name)}: ${BuildError.from(error).message}`,
      );
    }
  }
  if (bad.length > 0) return bad;
  const [only] = built;
  if (wanted.size === 1 && built.length === 1 && only) return oneMismatch(names[0]!, wanted, only);
  if (!isMultiRef(source) && wanted.size > 1)
    return ['Multiple platforms requested but result is not multi-platform'];
  if (wanted.size === built.length && built.every((platform) => wanted.has(formatPlatformFull(platform))))
    return [];
  return [`Requested platforms ${list(wanted.values())} do not match result platforms ${list(built)}`];
}

/** A result may say more of the system's version than was asked for. */
function oneMismatch(name: string, wanted: ReadonlyMap<string, Platform>, built: Platform): string[] {
  const [platform] = wanted.values();
  const { osVersion, ...versionless } = built;
  const result = platform?.osVersion ? built : versionless;
  if (wanted.has(formatPlatformFull(built)) || wanted.has(formatPlatformFull(result))) return [];
  const text = JSON.stringify(formatPlatformFull(result));
  return [`Requested platform ${JSON.stringify(name)} does not match result platform ${text}`];
}

function list(platforms: Iterable<Platform>): string {
  return [...platforms].map(formatPlatformFull).sort().join(',');
}
