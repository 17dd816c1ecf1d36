import { isDigest } from '../base/digest.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import type { RecordType } from '../cache/ref.ts';
import { hostPlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import { type ImageReference, parseReference, withDefaultTag } from '../oci/reference.ts';
import type { ImageWish } from './image.ts';

/** `local` and `default` differ from `pull` only where there is an image store, which this daemon has not. */
export type ResolveMode = 'default' | 'pull' | 'local';

/** What `docker-image://REF` and its attributes ask for (FEATURES D29). */
export interface ImageSourceSpec extends ImageWish {
  readonly reference: ImageReference;
  readonly mode: ResolveMode;
}

/** @throws invalidArgument; `ref` is what follows `docker-image://`. */
export function imageSourceSpec(
  ref: string,
  attrs: Readonly<Record<string, string>>,
  platform: Platform | undefined,
): ImageSourceSpec {
  const limit = layerLimit(attrs['image.layerlimit']);
  const checksum = attrs['image.checksum'];
  if (checksum !== undefined && !isDigest(checksum))
    throw invalidArgument(`invalid image checksum ${checksum}: invalid checksum digest format`);
  return {
    reference: withDefaultTag(parseReference(ref)),
    platform: normalizePlatform(platform ?? hostPlatform()),
    mode: resolveMode(attrs['image.resolvemode'] ?? ''),
    recordType: recordType(attrs['image.recordtype'] ?? ''),
    ...(limit === undefined ? {} : { layerLimit: limit }),
    ...(checksum === undefined ? {} : { checksum }),
  };
}

/** @throws invalidArgument */
export function resolveMode(text: string): ResolveMode {
  if (text === '') return 'default';
  if (text === 'default' || text === 'pull' || text === 'local') return text;
  throw invalidArgument(`invalid resolvemode: ${text}`);
}

export function recordType(text: string): RecordType {
  if (text === '') return 'regular';
  if (text === 'regular' || text === 'internal' || text === 'frontend') return text;
  throw new BuildError(`invalid record type ${text}`);
}

export function layerLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[+-]?\d+$/.test(text))
    throw invalidArgument(
      `invalid layer limit ${text}: strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  const limit = Number(text);
  if (!Number.isSafeInteger(limit) || limit <= 0) throw invalidArgument(`invalid layer limit ${text}`);
  return limit;
}
