import { digestHex, digestOf } from '../../base/digest.ts';
import { VERSION } from '../../base/version.ts';
import type * as pb from '../../pb/control.ts';
import type { Timestamp } from '../../pb/google/protobuf/timestamp.ts';
import { nanosOf } from '../time-wire.ts';

/** Media type of a trace: spans in the JSON of OpenTelemetry's Go library, one after the other (FEATURES B37). */
export const TRACE_MEDIA_TYPE = 'application/vnd.buildkit.otlp.json.v0';

const INTERNAL = 1;
const UNSET = 0;
const ERROR = 1;

interface Span {
  readonly id: string;
  readonly parent: string;
  readonly name: string;
  readonly started: Timestamp;
  readonly completed: Timestamp;
  readonly attributes: readonly object[];
  readonly error: string;
}

/**
 * The trace of a finished build, made of its log: the build, below it the runs of its steps, below these what
 * they reported, such as transfers. A line a span.
 */
export async function traceLines(
  record: pb.BuildHistoryRecord,
  log: AsyncIterable<pb.StatusResponse>,
): Promise<string[]> {
  const { Ref: ref, CreatedAt: started, CompletedAt: completed, error } = record;
  if (!started || !completed) return [];
  const root = spanId(ref);
  const runs = new Map<string, Span>();
  const parts = new Map<string, Span & { readonly vertex: string }>();
  /** The last run of each vertex. */
  const lastRuns = new Map<string, string>();
  for await (const { vertexes, statuses } of log) {
    for (const vertex of vertexes) {
      const { digest, started, completed, name, error } = vertex;
      if (!started || !completed) continue;
      const id = spanId(ref, digest, String(nanosOf(started)));
      const attributes = [text('vertex', digest), flag('cached', vertex.cached)];
      runs.set(id, { id, parent: root, name, started, completed, attributes, error });
      lastRuns.set(digest, id);
    }
    for (const { ID, vertex, name, started, completed } of statuses) {
      if (!started || !completed) continue;
      const id = spanId(ref, vertex, 'status', ID);
      parts.set(id, {
        id,
        vertex,
        parent: '',
        name: name || ID,
        started,
        completed,
        attributes: [],
        error: '',
      });
    }
  }
  const attributes = [text('build.ref', ref), text('build.frontend', record.Frontend)];
  const spans: Span[] = [
    { id: root, parent: '', name: 'build', started, completed, attributes, error: error?.message ?? '' },
    ...runs.values(),
    ...[...parts.values()].map((part) => ({ ...part, parent: lastRuns.get(part.vertex) ?? root })),
  ];
  const traceId = hash([ref]).slice(0, 32);
  return spans.map((span) => `${JSON.stringify(spanJson(span, traceId))}\n`);
}

function spanJson(
  { id, parent, name, started, completed, attributes, error }: Span,
  traceId: string,
): object {
  const scope = { Name: 'buildkit-ts', Version: VERSION, SchemaURL: '', Attributes: {} };
  return {
    Name: name,
    SpanContext: context(traceId, id),
    Parent: parent === '' ? context('0'.repeat(32), '0'.repeat(16), '00') : context(traceId, parent),
    SpanKind: INTERNAL,
    StartTime: rfc3339(started),
    EndTime: rfc3339(completed),
    Attributes: attributes,
    Events: null,
    Links: null,
    Status: error === '' ? { Code: UNSET, Description: '' } : { Code: ERROR, Description: error },
    DroppedAttributes: 0,
    DroppedEvents: 0,
    DroppedLinks: 0,
    ChildSpanCount: 0,
    Resource: [text('service.name', 'buildkitd')],
    InstrumentationScope: scope,
    InstrumentationLibrary: scope,
  };
}

function context(TraceID: string, SpanID: string, TraceFlags = '01'): object {
  return { TraceID, SpanID, TraceFlags, TraceState: '', Remote: false };
}

function text(Key: string, value: string): object {
  return { Key, Value: { Type: 'STRING', Value: value } };
}

function flag(Key: string, value: boolean): object {
  return { Key, Value: { Type: 'BOOL', Value: value } };
}

function spanId(...names: string[]): string {
  return hash(['span', ...names]).slice(0, 16);
}

function hash(names: readonly string[]): string {
  return digestHex(digestOf(names.join('\0')));
}

function rfc3339({ seconds, nanos }: Timestamp): string {
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return `${whole}.${String(nanos).padStart(9, '0')}Z`;
}
