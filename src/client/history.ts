import {
  type BuildHistoryRecord,
  BuildHistoryRequest,
  BuildHistoryEventType,
  type BuildResultInfo,
  ControlDefinition,
  type Descriptor,
} from '../pb/control.ts';
import { ContentDefinition } from '../pb/content.ts';
import type { Timestamp } from '../pb/google/protobuf/timestamp.ts';
import { errorOf } from '../rpc/status.ts';
import type { Client } from './client.ts';
import type {
  BlobInfo,
  BuildRecord,
  BuildRecordResult,
  HistoryEvent,
  HistoryRequest,
  HistoryUpdate,
} from './history-types.ts';
import type { CallOptions, SolveStatus } from './types.ts';
import { statusFromWire } from './wire.ts';

/** Records of builds, and with `follow` what becomes of them (FEATURES B30). */
export async function* history(
  client: Client,
  { ref = '', activeOnly = false, follow = false, filters = [], limit = 0 }: HistoryRequest,
  options: CallOptions,
): AsyncGenerator<HistoryEvent> {
  const control = await client.service(ControlDefinition);
  const request = BuildHistoryRequest.create({
    Ref: ref,
    ActiveOnly: activeOnly,
    EarlyExit: !follow,
    Filter: [...filters],
    Limit: limit,
  });
  for await (const { type, record } of control.listenBuildHistory(request, options))
    if (record) yield { type: TYPES[type] ?? 'complete', record: recordFromWire(record) };
}

const TYPES: Readonly<Record<number, HistoryEvent['type']>> = {
  [BuildHistoryEventType.STARTED]: 'started',
  [BuildHistoryEventType.COMPLETE]: 'complete',
  [BuildHistoryEventType.DELETED]: 'deleted',
};

/** @throws BuildError; NotFound for a build that is not kept */
export async function updateHistory(
  client: Client,
  ref: string,
  { pinned = false, delete: isDelete = false, finalize = false }: HistoryUpdate,
  options: CallOptions,
): Promise<void> {
  const control = await client.service(ControlDefinition);
  const request = { Ref: ref, Pinned: pinned, Delete: isDelete, Finalize: finalize };
  await control.updateBuildHistory(request, options);
}

/** Progress of a build that runs, or has run. */
export async function* buildProgress(
  client: Client,
  ref: string,
  options: CallOptions,
): AsyncGenerator<SolveStatus> {
  const control = await client.service(ControlDefinition);
  for await (const response of control.status({ Ref: ref }, options)) yield statusFromWire(response);
}

/** A blob of the daemon's store. An unknown one is told before there is anything to read. */
export async function* readBlob(
  client: Client,
  digest: string,
  options: CallOptions,
): AsyncGenerator<Uint8Array> {
  const content = await client.service(ContentDefinition);
  await content.info({ digest }, options);
  for await (const { data } of content.read({ digest, offset: 0n, size: 0n }, options)) yield data;
}

function recordFromWire(record: BuildHistoryRecord): BuildRecord {
  const { Result, Results } = record;
  const all = Object.keys(Results).length > 0 ? Results : Result ? { '': Result } : {};
  return {
    ref: record.Ref,
    frontend: record.Frontend,
    frontendOptions: record.FrontendAttrs,
    exports: record.Exporters.map(({ Type, Attrs }) => ({ type: Type, attrs: Attrs })),
    ...(record.error && { error: errorOf(record.error) }),
    createdAt: dateOf(record.CreatedAt),
    completedAt: dateOf(record.CompletedAt),
    pinned: record.pinned,
    steps: {
      total: record.numTotalSteps,
      completed: record.numCompletedSteps,
      cached: record.numCachedSteps,
    },
    warnings: record.numWarnings,
    exporterResponse: record.ExporterResponse,
    generation: record.Generation,
    ...(record.logs && { log: blobInfo(record.logs) }),
    ...(record.trace && { trace: blobInfo(record.trace) }),
    results: Object.fromEntries(Object.entries(all).map(([id, info]) => [id, resultFromWire(info)])),
  };
}

function resultFromWire({ ResultDeprecated, Results, Attestations }: BuildResultInfo): BuildRecordResult {
  const results = Results.size > 0 ? [...Results.values()] : ResultDeprecated ? [ResultDeprecated] : [];
  return { results: results.map(blobInfo), attestations: Attestations.map(blobInfo) };
}

function blobInfo({ mediaType, digest, size, annotations }: Descriptor): BlobInfo {
  return { mediaType, digest, size: Number(size), annotations };
}

function dateOf(time: Timestamp | undefined): Date | undefined {
  return time && new Date(Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6));
}
