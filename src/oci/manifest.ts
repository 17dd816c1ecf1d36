import { isDigest } from '../base/digest.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { goJson, goJsonIndent, goMap } from '../base/gojson.ts';
import type { Descriptor } from './descriptor.ts';
import { isIndexType, isManifestType, mediaTypeDockerList, mediaTypeDockerManifest } from './media-types.ts';
import { platformFromJson, platformToJson } from './platform.ts';

/** Image manifest (image-spec manifest.md or Docker's schema 2). */
export interface Manifest {
  readonly kind: 'manifest';
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Image index or Docker manifest list. */
export interface ImageIndex {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Manifests above this many bytes are refused (FEATURES F22). */
export const MAX_MANIFEST_BYTES = 4_393_216;

type Fields = Record<string, unknown>;

function parseObject(data: Uint8Array): Fields {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data));
  } catch (cause) {
    throw invalidArgument(`failed to parse manifest: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalidArgument('failed to parse manifest: no JSON object');
  return value as Fields;
}

/** The media type a document of this content must have (FEATURES K6). @throws invalidArgument */
export function detectManifestType(data: Uint8Array): string {
  return manifestType(parseObject(data));
}

function manifestType(fields: Fields): string {
  const isManifest = 'config' in fields || 'layers' in fields;
  if (isManifest && 'manifests' in fields)
    throw invalidArgument('invalid ambiguous manifest and manifest list');
  const named = fields.mediaType;
  if (typeof named === 'string' && (isManifestType(named) || isIndexType(named))) {
    if (isManifestType(named) !== isManifest)
      throw invalidArgument('mediaType in manifest does not match manifest contents');
    return named;
  }
  return isManifest ? mediaTypeDockerManifest : mediaTypeDockerList;
}

/** Reads and checks a manifest or index. `mediaType` is what its descriptor or server called it, if anything did. */
export function parseManifest(data: Uint8Array, mediaType = ''): Manifest | ImageIndex {
  if (data.length > MAX_MANIFEST_BYTES) throw invalidArgument('failed to parse manifest: too large');
  const fields = parseObject(data);
  if (fields.schemaVersion === 1)
    throw new BuildError(
      'support Docker Image manifest version 2, schema 1 has been removed. ' +
        'More information at https://docs.docker.com/go/deprecated-image-specs/',
    );
  const detected = manifestType(fields);
  const common = {
    mediaType: isManifestType(mediaType) || isIndexType(mediaType) ? mediaType : detected,
    ...(typeof fields.artifactType === 'string' ? { artifactType: fields.artifactType } : {}),
    ...(fields.subject ? { subject: parseDescriptor(fields.subject, 'subject') } : {}),
    ...annotationsOf(fields),
  };
  if (isManifestType(common.mediaType) !== isManifestType(detected))
    throw invalidArgument(`content of ${mediaType} does not match its media type`);
  if (!isManifestType(detected))
    return { kind: 'index', ...common, manifests: descriptorList(fields.manifests, 'manifests') };
  return {
    kind: 'manifest',
    ...common,
    config: parseDescriptor(fields.config, 'config'),
    layers: descriptorList(fields.layers, 'layers'),
  };
}

function descriptorList(value: unknown, what: string): Descriptor[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalidArgument(`invalid manifest: ${what} is no list`);
  return value.map((entry, i) => parseDescriptor(entry, `${what}[${i}]`));
}

/** @throws invalidArgument naming `what`. */
export function parseDescriptor(value: unknown, what: string): Descriptor {
  const invalid = (problem: string) => invalidArgument(`invalid descriptor ${what}: ${problem}`);
  if (typeof value !== 'object' || value === null) throw invalid('missing');
  const fields = value as Fields;
  const { mediaType = '', digest, size } = fields;
  if (typeof mediaType !== 'string') throw invalid('bad mediaType');
  if (typeof digest !== 'string' || !isDigest(digest)) throw invalid(`bad digest ${JSON.stringify(digest)}`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw invalid(`bad size ${JSON.stringify(size)}`);
  const platform = platformFromJson(fields.platform);
  const urls = Array.isArray(fields.urls)
    ? fields.urls.filter((u): u is string => typeof u === 'string')
    : [];
  return {
    mediaType,
    digest,
    size,
    ...(urls.length ? { urls } : {}),
    ...annotationsOf(fields),
    ...(platform ? { platform } : {}),
    ...(typeof fields.artifactType === 'string' && fields.artifactType
      ? { artifactType: fields.artifactType }
      : {}),
  };
}

function annotationsOf(fields: Fields): { annotations?: Record<string, string> } {
  const { annotations } = fields;
  if (typeof annotations !== 'object' || annotations === null || Array.isArray(annotations)) return {};
  const strings = Object.entries(annotations).filter((e): e is [string, string] => typeof e[1] === 'string');
  return strings.length ? { annotations: Object.fromEntries(strings) } : {};
}

/** A descriptor's JSON form, keys in the order of the Go struct, maps sorted. */
export function descriptorToJson(descriptor: Descriptor): Fields {
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: descriptor.size,
    ...(descriptor.urls?.length ? { urls: descriptor.urls } : {}),
    ...sortedAnnotations(descriptor.annotations),
    ...(descriptor.data?.length ? { data: descriptor.data } : {}),
    ...(descriptor.platform ? { platform: platformToJson(descriptor.platform) } : {}),
    ...(descriptor.artifactType ? { artifactType: descriptor.artifactType } : {}),
  };
}

function sortedAnnotations(annotations: Readonly<Record<string, string>> | undefined): Fields {
  if (!annotations || Object.keys(annotations).length === 0) return {};
  return { annotations: goMap(annotations) };
}

/** How JSON is laid out. */
export interface EncodeOptions {
  /** Default two spaces, as upstream's manifests have it; '' for compact. */
  readonly indent?: string;
}

/** Bytes of a manifest or index. An empty list is `null`, as upstream writes it. */
export function encodeManifest(manifest: Manifest | ImageIndex, options: EncodeOptions = {}): Uint8Array {
  const list = (items: readonly Descriptor[]) => (items.length ? items.map(descriptorToJson) : null);
  const fields = {
    schemaVersion: 2,
    ...(manifest.mediaType ? { mediaType: manifest.mediaType } : {}),
    ...(manifest.artifactType ? { artifactType: manifest.artifactType } : {}),
    ...(manifest.kind === 'manifest'
      ? { config: descriptorToJson(manifest.config), layers: list(manifest.layers) }
      : { manifests: list(manifest.manifests) }),
    ...(manifest.subject ? { subject: descriptorToJson(manifest.subject) } : {}),
    ...sortedAnnotations(manifest.annotations),
  };
  const indent = options.indent ?? '  ';
  return Buffer.from(indent === '' ? goJson(fields) : goJsonIndent(fields, indent));
}
