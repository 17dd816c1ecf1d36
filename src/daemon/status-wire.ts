import type * as pb from '../pb/control.ts';
import type { SourceInfo as PbSourceInfo } from '../pb/ops.ts';
import type {
  SolveStatus,
  SourceInfo,
  VertexLog,
  VertexState,
  VertexStatusState,
  VertexWarning,
} from '../solver/types.ts';
import { timestampOfNanos } from './time-wire.ts';

/** A response is sent on when its logs and warnings exceed this (FEATURES B24). */
const MAX_BYTES = 1 << 20;

/** One progress message as one or more wire messages, none of them too large. */
export function* statusToWire(status: SolveStatus): Generator<pb.StatusResponse> {
  let response: pb.StatusResponse = {
    vertexes: status.vertexes.map(vertexToWire),
    statuses: status.statuses.map(subStatusToWire),
    logs: [],
    warnings: [],
  };
  let bytes = 0;
  const parts = [
    ...status.logs.map((log) => ({ size: log.data.length, put: () => response.logs.push(logToWire(log)) })),
    ...status.warnings.map((warning) => ({
      // Every warning carries the whole file.
      size: warning.short.length + (warning.sourceInfo?.data.length ?? 0),
      put: () => response.warnings.push(warningToWire(warning)),
    })),
  ];
  for (const { size, put } of parts) {
    if (bytes > 0 && bytes + size > MAX_BYTES) {
      yield response;
      response = { vertexes: [], statuses: [], logs: [], warnings: [] };
      bytes = 0;
    }
    put();
    bytes += size;
  }
  yield response;
}

function optionalTime(nanos: bigint | undefined): pb.Vertex['started'] {
  return nanos === undefined ? undefined : timestampOfNanos(nanos);
}

function vertexToWire(vertex: VertexState): pb.Vertex {
  return {
    digest: vertex.digest,
    inputs: [...vertex.inputs],
    name: vertex.name,
    cached: vertex.cached,
    started: optionalTime(vertex.started),
    completed: optionalTime(vertex.completed),
    error: vertex.error,
    progressGroup: vertex.progressGroup && { ...vertex.progressGroup },
  };
}

function subStatusToWire(status: VertexStatusState): pb.VertexStatus {
  return {
    ID: status.id,
    vertex: status.vertex,
    name: status.name,
    current: BigInt(Math.round(status.current)),
    total: BigInt(Math.round(status.total)),
    timestamp: timestampOfNanos(status.timestamp),
    started: optionalTime(status.started),
    completed: optionalTime(status.completed),
  };
}

function logToWire(log: VertexLog): pb.VertexLog {
  return {
    vertex: log.vertex,
    timestamp: timestampOfNanos(log.timestamp),
    stream: BigInt(log.stream),
    msg: log.data,
  };
}

export function warningToWire(warning: VertexWarning): pb.VertexWarning {
  return {
    vertex: warning.vertex,
    level: BigInt(warning.level),
    short: warning.short,
    detail: [...warning.detail],
    url: warning.url,
    info: warning.sourceInfo && sourceInfoToWire(warning.sourceInfo),
    ranges: warning.ranges.map((range) => ({ start: { ...range.start }, end: { ...range.end } })),
  };
}

function sourceInfoToWire(info: SourceInfo): PbSourceInfo {
  return { filename: info.filename, data: info.data, definition: undefined, language: info.language };
}
