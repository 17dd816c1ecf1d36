import { BuildError } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { parseImageConfig } from '../oci/image-config.ts';
import {
  formatPlatformFull,
  hostPlatform,
  normalizePlatform,
  type Platform,
  platformFromJson,
} from '../oci/platform.ts';
import type { ExportSource } from './exporter.ts';

export const keyPlatforms = 'refs.platforms';
export const keyImageConfig = 'containerimage.config';
export const keyBaseConfig = 'containerimage.base.config';
export const keyEpoch = 'source.date.epoch';

/** One platform of a result. `id` is the key of its ref and the suffix of its metadata keys. */
export interface ResultPlatform {
  readonly id: string;
  readonly platform: Platform;
}

/** A result whose trees do not matter. */
type ResultShape = Pick<ExportSource, 'metadata'> & { readonly refs?: ReadonlyMap<string, unknown> };

export function isMultiRef({ refs }: Pick<ResultShape, 'refs'>): boolean {
  return (refs?.size ?? 0) > 0;
}

/** The platforms of a result (FEATURES J26). */
export function resultPlatforms(source: ResultShape): readonly ResultPlatform[] {
  if (isMultiRef(source) && !source.metadata.has(keyPlatforms))
    throw new BuildError('unable to export multiple refs, missing platforms mapping');
  return toldPlatforms(source);
}

/** The platforms that the metadata tells of, or the one that it implies. */
export function toldPlatforms(source: Pick<ResultShape, 'metadata'>): readonly ResultPlatform[] {
  const mapping = source.metadata.get(keyPlatforms);
  return mapping === undefined ? [impliedPlatform(source)] : parsePlatforms(mapping);
}

function parsePlatforms(mapping: Uint8Array): ResultPlatform[] {
  let parsed: unknown;
  try {
    parsed = mapping.length ? JSON.parse(Buffer.from(mapping).toString()) : undefined;
  } catch (cause) {
    throw new BuildError('failed to parse platforms passed to exporter', { cause });
  }
  const list = (parsed as { Platforms?: unknown } | undefined)?.Platforms;
  if (!Array.isArray(list) || list.length === 0)
    throw new BuildError('invalid empty platforms index for exporter');
  return list.map((entry: { ID?: unknown; Platform?: unknown } | null) => {
    if (typeof entry?.ID !== 'string' || entry.ID === '')
      throw new BuildError('invalid empty platform key for exporter');
    const platform = platformFromJson(entry.Platform);
    if (!platform?.os || !platform.architecture)
      throw new BuildError(`invalid platform value ${JSON.stringify(entry.Platform)} for exporter`);
    return { id: entry.ID, platform: normalizePlatform(platform) };
  });
}

function impliedPlatform(source: Pick<ResultShape, 'metadata'>): ResultPlatform {
  const config = source.metadata.get(keyImageConfig);
  let platform = hostPlatform();
  if (config !== undefined) {
    const own = parseImageConfig(config).platform;
    if ((own.os === '') !== (own.architecture === ''))
      throw new BuildError('invalid image config: os and architecture must be specified together');
    if (own.os !== '') platform = normalizePlatform(own);
  }
  return { id: formatPlatformFull(platform), platform };
}

/** The ref of a platform. A map of one serves any id. @throws when there is none */
export function refOf(source: ExportSource, id: string): ImmutableRef | null {
  if (!isMultiRef(source)) return source.ref;
  const refs = source.refs!;
  if (refs.has(id)) return refs.get(id)!;
  const [only] = refs.values();
  if (refs.size === 1) return only ?? null;
  throw new BuildError(`failed to find ref for ID ${id}`);
}

/** `KEY/ID` of the metadata, else `KEY`. */
export function platformValue(
  source: ExportSource,
  key: string,
  platform: ResultPlatform | undefined,
): Uint8Array | undefined {
  const own = platform && source.metadata.get(`${key}/${platform.id}`);
  return own ?? source.metadata.get(key);
}

/** Every tree that is not empty. */
export function allRefs(source: ExportSource): ImmutableRef[] {
  const refs = isMultiRef(source) ? [...source.refs!.values()] : [source.ref];
  return refs.filter((ref) => ref !== null);
}
