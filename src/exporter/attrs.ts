import { BuildError } from '../base/errors.ts';
import { parseBool } from '../base/flags.ts';
import type { Compression, CompressionType } from '../cache/ref.ts';
import { type ImageTime, parseTime } from '../oci/time.ts';
import { Annotations } from './annotations.ts';
import type { ExportSource } from './exporter.ts';
import { keyEpoch, platformValue, type ResultPlatform } from './platforms.ts';

export type Attrs = Readonly<Record<string, string>>;

/** Attributes that all image-like exporters have (FEATURES J3, J7, J11, J13). */
export interface ImageAttrs {
  /** Comma-separated; `*` = what the frontend says. */
  readonly name: string;
  /** undefined: the exporter's default. */
  readonly ociTypes: boolean | undefined;
  /** Attestation manifests as artifacts that name their image; undefined: with OCI's media types. */
  readonly ociArtifact: boolean | undefined;
  /** Whether attestations that are for images only make one image an index; undefined: the exporter's default. */
  readonly attestationInline: boolean | undefined;
  readonly compression: Compression;
  readonly preferNonDistributable: boolean;
  readonly epoch: EpochAttr | undefined;
  /** No file of the layers above the base image may be newer than the epoch. */
  readonly rewriteTimestamp: boolean;
  /** The `annotation…` keys. */
  readonly annotations: Attrs;
  /** Everything else: metadata of the result. */
  readonly rest: ReadonlyMap<string, string>;
}

/** `value` undefined: the result's epoch is not to be used. */
export interface EpochAttr {
  readonly value: ImageTime | undefined;
}

const KNOWN = new Set([
  'name',
  'oci-mediatypes',
  'oci-artifact',
  'attestation-inline',
  'prefer-nondist-layers',
  'rewrite-timestamp',
  'compression',
  'compression-level',
  'force-compression',
  'source-date-epoch',
]);

export function parseImageAttrs(attrs: Attrs): ImageAttrs {
  const bool = (key: string): boolean | undefined =>
    Object.hasOwn(attrs, key) ? boolAttr(attrs, key) : undefined;
  const annotations = Object.fromEntries(Object.entries(attrs).filter(([key]) => Annotations.isKey(key)));
  new Annotations(Object.entries(annotations)); // refuses bad ones before the build
  const ociTypes = bool('oci-mediatypes');
  const compression = parseCompression(attrs);
  const epoch = epochAttr(attrs);
  const ociArtifact = bool('oci-artifact');
  checkMediaTypes({ ociTypes, ociArtifact, compression });
  return {
    name: attrs.name ?? '',
    ociTypes,
    ociArtifact,
    attestationInline: bool('attestation-inline'),
    compression,
    preferNonDistributable: bool('prefer-nondist-layers') ?? false,
    epoch,
    rewriteTimestamp: bool('rewrite-timestamp') ?? false,
    annotations,
    rest: new Map(Object.entries(attrs).filter(([key]) => !KNOWN.has(key) && !Annotations.isKey(key))),
  };
}

/** @throws for what only OCI's media types can say when they are not wanted */
export function checkMediaTypes({
  ociTypes,
  ociArtifact,
  compression,
}: Pick<ImageAttrs, 'ociTypes' | 'ociArtifact' | 'compression'>): void {
  if (ociTypes !== false) return;
  if (compression.type === 'estargz')
    throw new BuildError('exporter option "compression=estargz" conflicts with "oci-mediatypes=false"');
  if (ociArtifact)
    throw new BuildError('exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"');
}

/**
 * @param problem what the error begins with
 * @throws for a value that Go would not read as a boolean. '' is one of them.
 */
export function boolAttr(
  attrs: Attrs,
  key: string,
  problem = `non-bool value specified for ${key}`,
): boolean {
  const value = parseBool(attrs[key] ?? '');
  if (value === undefined) throw new BuildError(`${problem}: ${goProblem('ParseBool', attrs[key] ?? '')}`);
  return value;
}

/** How upstream's parser of numbers and booleans words a bad text. */
function goProblem(parser: 'ParseBool' | 'ParseInt', text: string): string {
  return `strconv.${parser}: parsing ${JSON.stringify(text)}: invalid syntax`;
}

/** As `boolAttr`, but '' is true and absence is `absent`. */
export function flagAttr(attrs: Attrs, key: string, absent: boolean, problem?: string): boolean {
  if (!Object.hasOwn(attrs, key)) return absent;
  return attrs[key] === '' ? true : boolAttr(attrs, key, problem);
}

const TYPES: readonly CompressionType[] = ['uncompressed', 'gzip', 'zstd', 'estargz'];

export function parseCompression(attrs: Attrs): Compression {
  const name = attrs.compression ?? 'gzip';
  const type = TYPES.find((known) => known === name);
  if (!type) throw new BuildError(`unsupported compression type ${name}`);
  const level = attrs['compression-level'];
  if (level !== undefined && !/^[+-]?\d+$/.test(level))
    throw new BuildError(
      `non-integer value ${level} specified for compression-level: ${goProblem('ParseInt', level)}`,
    );
  const force = attrs['force-compression'];
  return {
    type,
    force: flagAttr(
      attrs,
      'force-compression',
      false,
      `non-bool value ${force} specified for force-compression`,
    ),
    ...(level === undefined ? {} : { level: Number(level) }),
  };
}

export function epochAttr(attrs: Attrs): EpochAttr | undefined {
  const text = attrs['source-date-epoch'];
  return text === undefined ? undefined : { value: epochTime(text, 'source-date-epoch') };
}

function epochTime(text: string, what: string): ImageTime | undefined {
  if (text === '') return undefined;
  const seconds = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) {
    const problem = goProblem('ParseInt', text);
    throw new BuildError(`invalid ${what}: ${problem}: ${problem}`);
  }
  return parseTime(date.toISOString());
}

/** SOURCE_DATE_EPOCH of one platform: the attribute's, else what the frontend found. */
export function epochOf(
  attr: EpochAttr | undefined,
  source: ExportSource,
  platform: ResultPlatform | undefined,
): ImageTime | undefined {
  if (attr) return attr.value;
  const value = platformValue(source, keyEpoch, platform);
  if (value === undefined) return undefined;
  return epochTime(Buffer.from(value).toString(), 'SOURCE_DATE_EPOCH from frontend');
}

/** Attributes that no exporter knows are metadata of the result, above the frontend's. */
export function withMetadata(source: ExportSource, attrs: ImageAttrs): ExportSource {
  const added = [...attrs.rest].map(([key, value]) => [key, Buffer.from(value)] as const);
  return { ...source, metadata: new Map([...source.metadata, ...added]) };
}
