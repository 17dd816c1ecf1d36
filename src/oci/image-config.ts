import { type Digest, digestOf, isDigest } from '../base/digest.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import { joinRawFields, rawFields } from './raw-json.ts';
import { hostPlatform, type Platform, platformFromJson, platformToJson } from './platform.ts';
import { type ImageTime, parseTime } from './time.ts';

/** One entry of an image config's history. */
export interface HistoryEntry {
  readonly created?: ImageTime;
  readonly createdBy?: string;
  readonly author?: string;
  readonly comment?: string;
  readonly emptyLayer?: boolean;
}

/** What the daemon needs to know of an image config. */
export interface ImageConfig {
  /** Not normalized; empty strings where the config says nothing. */
  readonly platform: Platform;
  readonly rootfsType: string;
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryEntry[];
}

/** One layer of the image to be, bottom up. */
export interface ConfigLayer {
  readonly diffId: Digest;
  readonly created?: ImageTime;
  readonly description?: string;
}

/** Key of an image config that holds a build cache, as base64. */
export const INLINE_CACHE_KEY = 'moby.buildkit.cache.v0';

type Fields = Record<string, unknown>;
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const LAYER_COMMENT = 'buildkit.exporter.image.v0';
const LAYER_DESCRIPTION = 'created by buildkit';

/** @throws invalidArgument */
export function parseImageConfig(data: Uint8Array): ImageConfig {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { ignoreBOM: true }).decode(data));
  } catch (cause) {
    throw invalidArgument(`invalid image config: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Fields;
  const rootfs = (typeof fields.rootfs === 'object' && fields.rootfs !== null ? fields.rootfs : {}) as Fields;
  const diffIds = Array.isArray(rootfs.diff_ids) ? rootfs.diff_ids : [];
  for (const id of diffIds)
    if (typeof id !== 'string' || !isDigest(id))
      throw invalidArgument(`invalid image config: bad diff ID ${JSON.stringify(id)}`);
  return {
    platform: platformFromJson(fields) ?? { architecture: '', os: '' },
    rootfsType: typeof rootfs.type === 'string' ? rootfs.type : '',
    diffIds: diffIds as Digest[],
    history: Array.isArray(fields.history) ? fields.history.map(parseHistory) : [],
  };
}

function parseHistory(value: unknown): HistoryEntry {
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Fields;
  const text = (key: string): string | undefined =>
    typeof fields[key] === 'string' && fields[key] !== '' ? fields[key] : undefined;
  const created = text('created');
  return {
    ...(created === undefined ? {} : { created: parseTime(created) }),
    ...(text('created_by') === undefined ? {} : { createdBy: text('created_by')! }),
    ...(text('author') === undefined ? {} : { author: text('author')! }),
    ...(text('comment') === undefined ? {} : { comment: text('comment')! }),
    ...(fields.empty_layer === true ? { emptyLayer: true } : {}),
  };
}

function historyToJson(entry: HistoryEntry): Fields {
  return {
    ...(entry.created ? { created: entry.created.text } : {}),
    ...(entry.createdBy ? { created_by: entry.createdBy } : {}),
    ...(entry.author ? { author: entry.author } : {}),
    ...(entry.comment ? { comment: entry.comment } : {}),
    ...(entry.emptyLayer ? { empty_layer: true } : {}),
  };
}

/** Config of a result that brings none (FEATURES J27). */
export function defaultImageConfig(platform: Platform = hostPlatform()): Uint8Array {
  const env = platform.os === 'windows' ? {} : { Env: [`PATH=${DEFAULT_PATH}`] };
  const config = {
    ...platformToJson(platform),
    config: { ...env, WorkingDir: '/' },
    rootfs: { type: 'layers', diff_ids: null },
  };
  return Buffer.from(goJson(config));
}

/** ID of a chain of layers by their diff IDs (image-spec config.md, layer ChainID). */
export function chainId(diffIds: readonly Digest[]): Digest {
  const [first, ...rest] = diffIds;
  if (first === undefined) throw new BuildError('chain of no layers');
  return rest.reduce((chain, id) => digestOf(`${chain} ${id}`), first);
}

/** History made to fit the layers: missing entries added, times filled in (FEATURES J27). */
export function normalizeHistory(
  history: readonly HistoryEntry[],
  layers: readonly ConfigLayer[],
): HistoryEntry[] {
  return fillTimes(fitLayers(history, layers), layers);
}

function fitLayers(history: readonly HistoryEntry[], layers: readonly ConfigLayer[]): HistoryEntry[] {
  let seen = 0;
  const fitted = history.map((entry): HistoryEntry => {
    if (entry.emptyLayer) return entry;
    return ++seen > layers.length ? { ...entry, emptyLayer: true } : entry;
  });
  const added = layers.slice(seen).map(
    (layer): HistoryEntry => ({
      ...(layer.created ? { created: layer.created } : {}),
      createdBy: layer.description || LAYER_DESCRIPTION,
      comment: LAYER_COMMENT,
    }),
  );
  return [...fitted, ...added];
}

function fillTimes(history: readonly HistoryEntry[], layers: readonly ConfigLayer[]): HistoryEntry[] {
  let layer = 0;
  const timed = history.map((entry): HistoryEntry => {
    if (entry.emptyLayer) return entry;
    const created = entry.created ?? layers[layer]?.created;
    layer++;
    return created ? { ...entry, created } : entry;
  });
  const firstGap = timed.findIndex((entry) => !entry.created);
  if (firstGap < 0) return timed;
  const after = timed.slice(firstGap).find((entry) => entry.created)?.created;
  let current = after ?? timed.findLast((entry) => entry.created)?.created;
  return timed.map((entry, i): HistoryEntry => {
    if (entry.created) {
      if (i > firstGap) current = entry.created;
      return entry;
    }
    return current ? { ...entry, created: current } : entry;
  });
}

export interface PatchOptions {
  /** SOURCE_DATE_EPOCH. */
  readonly epoch?: ImageTime;
  /** Config of the base image: its history keeps its times. */
  readonly baseConfig?: Uint8Array;
  /** The build cache that goes along (FEATURES J29). */
  readonly inlineCache?: Uint8Array | undefined;
}

/** The config that goes into the image: the frontend's, with rootfs, history and creation time set (FEATURES J27). */
export function patchImageConfig(
  config: Uint8Array,
  layers: readonly ConfigLayer[],
  options: PatchOptions = {},
): Uint8Array {
  let fields: Map<string, string> | null;
  try {
    fields = rawFields(new TextDecoder().decode(config));
  } catch (error) {
    throw BuildError.wrap(error, 'invalid image config for export');
  }
  if (fields === null) throw new BuildError('invalid null image config for export');
  const parsed = parseImageConfig(config);
  if (parsed.platform.os === '') throw new BuildError('invalid image config for export: missing os');
  if (parsed.platform.architecture === '')
    throw new BuildError('invalid image config for export: missing architecture');
  const diffIds = layers.length ? layers.map((layer) => layer.diffId) : null;
  fields.set('rootfs', goJson({ type: 'layers', diff_ids: diffIds }));
  const history = applyEpoch(normalizeHistory(parsed.history, layers), options);
  fields.set('history', history.length ? goJson(history.map(historyToJson)) : 'null');
  setCreated(fields, history, options.epoch);
  if (options.inlineCache) fields.set(INLINE_CACHE_KEY, goJson(options.inlineCache));
  return Buffer.from(joinRawFields(fields));
}

function applyEpoch(history: readonly HistoryEntry[], options: PatchOptions): HistoryEntry[] {
  const { epoch } = options;
  if (!epoch) return [...history];
  const base = options.baseConfig?.length ? parseImageConfig(options.baseConfig).history : [];
  const same = (a: HistoryEntry, b: HistoryEntry | undefined): boolean =>
    b !== undefined && goJson(historyToJson(a)) === goJson(historyToJson(b));
  const diverged = history.findIndex((entry, i) => !same(entry, base[i]));
  return history.map((entry, i) =>
    diverged >= 0 && i >= diverged && (!entry.created || entry.created.ns > epoch.ns)
      ? { ...entry, created: epoch }
      : entry,
  );
}

function setCreated(
  fields: Map<string, string>,
  history: readonly HistoryEntry[],
  epoch: ImageTime | undefined,
): void {
  const present = fields.get('created');
  if (present === undefined) {
    const last = history.findLast((entry) => entry.created)?.created;
    fields.set('created', last ? goJson(last.text) : 'null');
    return;
  }
  if (!epoch || present === 'null') return;
  const value: unknown = JSON.parse(present);
  let created: ImageTime;
  try {
    created = parseTime(String(value));
  } catch (error) {
    throw BuildError.wrap(error, `failed to unmarshal creation time ${JSON.stringify(present)}`);
  }
  if (created.ns > epoch.ns) fields.set('created', goJson(epoch.text));
}
