import { type Digest, isDigest } from '../base/digest.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { field, goJson, goStruct, optional } from '../base/gojson.ts';
import { parseTime } from '../oci/time.ts';

/** What a cache holds, as the JSON that travels (FEATURES K3). Indexes point into the lists of the same config. */
export interface CacheConfig {
  readonly layers: readonly ConfigLayer[];
  readonly records: readonly ConfigRecord[];
}

export interface ConfigLayer {
  readonly blob: Digest;
  /** Index of the layer below, `NO_PARENT` when there is none. */
  readonly parent: number;
  /** What the layer's descriptor says, for caches that have no manifest to say it. */
  readonly annotations?: LayerAnnotations;
}

export interface LayerAnnotations {
  readonly mediaType: string;
  readonly diffId: Digest;
  readonly size: number;
  /** RFC 3339 in UTC; undefined when nobody knows. */
  readonly createdAt: string | undefined;
}

export interface ConfigRecord {
  readonly digest: string;
  /** One per input: alternatives. */
  readonly inputs: readonly (readonly ConfigInput[])[];
  /** The layer stands for itself and all below it. */
  readonly results: readonly { readonly layer: number; readonly createdAt: number }[];
  /** The layers stand for themselves, bottom up. */
  readonly chains: readonly { readonly layers: readonly number[]; readonly createdAt: number }[];
}

export interface ConfigInput {
  /** '' when the whole input matters. */
  readonly selector: string;
  /** Index of the record. */
  readonly link: number;
}

export const NO_PARENT = -1;

const NO_TIME = '0001-01-01T00:00:00Z';
const ZERO_TIME = Date.parse(NO_TIME);

/** RFC 3339 as Go writes it. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/\.?0*Z$/, 'Z');
}

const annotationsJson = goStruct<LayerAnnotations>(
  optional('mediaType', ({ mediaType }) => mediaType),
  optional('diffID', ({ diffId }) => diffId),
  optional('size', ({ size }) => size),
  field('createdAt', ({ createdAt }) => createdAt ?? NO_TIME),
);
const layerJson = goStruct<ConfigLayer>(
  optional('blob', (layer) => layer.blob),
  optional('parent', (layer) => layer.parent),
  optional('annotations', (layer) => annotationsJson(layer.annotations)),
);
const resultJson = goStruct<ConfigRecord['results'][number]>(
  field('layer', (result) => result.layer),
  field('createdAt', (result) => timeText(result.createdAt)),
);
const chainJson = goStruct<ConfigRecord['chains'][number]>(
  field('layers', (chain) => chain.layers),
  field('createdAt', (chain) => timeText(chain.createdAt)),
);
const inputJson = goStruct<ConfigInput>(
  optional('selector', (input) => input.selector),
  field('link', (input) => input.link),
);
const recordJson = goStruct<ConfigRecord>(
  optional('layers', (record) => record.results.map(resultJson)),
  optional('chains', (record) => record.chains.map(chainJson)),
  optional('digest', (record) => record.digest),
  optional('inputs', (record) => record.inputs.map((alternatives) => alternatives.map(inputJson))),
);

export function encodeConfig({ layers, records }: CacheConfig): Uint8Array {
  const fields = {
    ...(layers.length > 0 ? { layers: layers.map(layerJson) } : {}),
    ...(records.length > 0 ? { records: records.map(recordJson) } : {}),
  };
  return Buffer.from(goJson(fields));
}

/** The records alone, for a cache inside an image config (FEATURES K9). */
export function encodeRecords(records: readonly ConfigRecord[]): Uint8Array {
  return Buffer.from(goJson(records.map(recordJson)));
}

type Fields = Record<string, unknown>;

/** @throws invalidArgument for what is no cache config; indexes are checked when they are used */
export function decodeConfig(data: Uint8Array): CacheConfig {
  const fields = object(parseJson(data), 'cache config');
  return { layers: list(fields.layers, 'layers').map(decodeLayer), records: records(fields.records) };
}

/** @throws invalidArgument */
export function decodeRecords(data: Uint8Array): ConfigRecord[] {
  return records(parseJson(data));
}

function records(value: unknown): ConfigRecord[] {
  return list(value, 'records').map(decodeRecord);
}

function parseJson(data: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(data).toString());
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse cache config');
  }
}

function decodeLayer(value: unknown): ConfigLayer {
  const { blob, parent = 0, annotations } = object(value, 'layer');
  const layer = { blob: digest(blob, 'layer'), parent: index(parent) };
  return present(annotations) ? { ...layer, annotations: decodeAnnotations(annotations) } : layer;
}

function decodeAnnotations(value: unknown): LayerAnnotations {
  const { mediaType = '', diffID, size = 0, createdAt } = object(value, 'annotations');
  if (typeof mediaType !== 'string') throw invalid('layer with bad media type');
  if (!present(diffID) || diffID === '') throw invalid('cache layer with missing diffid');
  const known = present(createdAt) && time(createdAt) !== ZERO_TIME;
  return {
    mediaType,
    diffId: digest(diffID, 'diffID'),
    size: index(size),
    createdAt: known ? (createdAt as string) : undefined,
  };
}

function digest(value: unknown, what: string): Digest {
  if (typeof value !== 'string' || !isDigest(value))
    throw invalid(`${what} with bad digest ${JSON.stringify(value)}`);
  return value;
}

function present(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function decodeRecord(value: unknown): ConfigRecord {
  const { digest = '', inputs, layers, chains } = object(value, 'record');
  if (typeof digest !== 'string') throw invalid('record with bad digest');
  return {
    digest,
    inputs: list(inputs, 'inputs').map((alternatives) =>
      list(alternatives, 'inputs').map((input) => {
        const { selector = '', link = 0 } = object(input, 'input');
        if (typeof selector !== 'string') throw invalid('input with bad selector');
        return { selector, link: index(link) };
      }),
    ),
    results: list(layers, 'layers').map((result) => {
      const { layer = 0, createdAt } = object(result, 'result');
      return { layer: index(layer), createdAt: time(createdAt) };
    }),
    chains: list(chains, 'chains').map((chain) => {
      const fields = object(chain, 'chain');
      return { layers: list(fields.layers, 'layers').map(index), createdAt: time(fields.createdAt) };
    }),
  };
}

function object(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(`bad ${what}`);
  return value as Fields;
}

function list(value: unknown, what: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(`${what} is no list`);
  return value;
}

function index(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw invalid(`bad index ${String(value)}`);
  return value;
}

function time(value: unknown): number {
  if (value === undefined || value === null) return ZERO_TIME;
  if (typeof value !== 'string') throw invalid('bad time');
  return Number(parseTime(value).ns / 1_000_000n);
}

function invalid(problem: string): BuildError {
  return invalidArgument(`invalid cache config: ${problem}`);
}
