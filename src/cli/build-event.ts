import type { BuildHistoryEvent, BuildHistoryRecord, BuildResultInfo, Descriptor } from '../pb/control.ts';
import type { Timestamp } from '../pb/google/protobuf/timestamp.ts';
import type { Status } from '../pb/rpcstatus.ts';

const TYPES = ['STARTED', 'COMPLETE', 'DELETED'];

/** `COMPLETE`, … */
export function eventType({ type }: BuildHistoryEvent): string {
  return TYPES[type] ?? String(type);
}

/** An event for templates, with upstream's names: what is empty can be named, and is left out of JSON. */
export function eventView(event: BuildHistoryEvent): object {
  const name = eventType(event);
  const type = Object.assign(new Number(event.type), { toString: () => name });
  return message({ type, record: event.record && recordView(event.record) });
}

function recordView(record: BuildHistoryRecord): object {
  return message({
    Ref: record.Ref,
    Frontend: record.Frontend,
    FrontendAttrs: sorted(record.FrontendAttrs),
    Exporters: record.Exporters.map(({ Type, Attrs }) => message({ Type, Attrs: sorted(Attrs) })),
    error: record.error && errorView(record.error),
    CreatedAt: record.CreatedAt && timeView(record.CreatedAt),
    CompletedAt: record.CompletedAt && timeView(record.CompletedAt),
    logs: record.logs && descriptorView(record.logs),
    ExporterResponse: sorted(record.ExporterResponse),
    Result: record.Result && resultView(record.Result),
    Results: sorted(mapValues(record.Results, resultView)),
    Generation: record.Generation,
    trace: record.trace && descriptorView(record.trace),
    pinned: record.pinned,
    numCachedSteps: record.numCachedSteps,
    numTotalSteps: record.numTotalSteps,
    numCompletedSteps: record.numCompletedSteps,
    externalError: record.externalError && descriptorView(record.externalError),
    numWarnings: record.numWarnings,
  });
}

function resultView({ ResultDeprecated, Attestations, Results }: BuildResultInfo): object {
  const results = [...Results].sort(([a], [b]) => (a < b ? -1 : 1));
  return message({
    ResultDeprecated: ResultDeprecated && descriptorView(ResultDeprecated),
    Attestations: Attestations.map(descriptorView),
    Results: Object.fromEntries(results.map(([index, one]) => [String(index), descriptorView(one)])),
  });
}

function descriptorView({ mediaType, digest, size, annotations }: Descriptor): object {
  return message({ media_type: mediaType, digest, size: Number(size), annotations: sorted(annotations) });
}

function errorView({ code, message: text }: Status): object {
  return message({ code, message: text });
}

function timeView({ seconds, nanos }: Timestamp): object {
  return message({ seconds: Number(seconds), nanos });
}

/** A message whose JSON leaves out what is empty, as Go's does. */
function message(fields: Readonly<Record<string, unknown>>): object {
  const toJSON = (): object => Object.fromEntries(Object.entries(fields).filter(([, v]) => !isEmpty(v)));
  return Object.defineProperty({ ...fields }, 'toJSON', { value: toJSON });
}

function isEmpty(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return !value;
  if (value instanceof Number) return value.valueOf() === 0;
  return !('toJSON' in value) && Object.keys(value).length === 0;
}

function sorted<T>(map: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function mapValues<A, B>(map: Readonly<Record<string, A>>, convert: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, convert(value)]));
}

/** `2006-01-02T15:04:05+07:00` in the local zone; '' when there is no time. */
export function localTime(time: Timestamp | undefined): string {
  if (!time) return '';
  const date = new Date(Number(time.seconds) * 1000);
  const offset = -date.getTimezoneOffset();
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19);
  if (offset === 0) return `${local}Z`;
  const two = (n: number): string => String(Math.floor(n)).padStart(2, '0');
  return `${local}${offset < 0 ? '-' : '+'}${two(Math.abs(offset) / 60)}:${two(Math.abs(offset) % 60)}`;
}
