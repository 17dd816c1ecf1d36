import { goJson } from '../../base/gojson.ts';
import type { SolveStatus, SourceInfo, SourceRange } from '../types.ts';
import type { Painter } from './display.ts';

/** One line of JSON per status message (FEATURES L25). */
export class RawJsonPainter implements Painter {
  readonly immediate = true;
  #out: string[] = [];

  update(status: SolveStatus): void {
    this.#out.push(statusJson(status));
  }

  paint(): Uint8Array {
    const out = Buffer.from(this.#out.join(''));
    this.#out = [];
    return out;
  }

  finish(): Uint8Array {
    return this.paint();
  }
}

/** With the newline that ends it. Zero values are left out, as upstream does. */
export function statusJson(status: SolveStatus): string {
  const message = {
    vertexes: filled(
      status.vertexes.map((v) => ({
        digest: v.digest || undefined,
        inputs: filled(v.inputs),
        name: v.name || undefined,
        started: timeText(v.started),
        completed: timeText(v.completed),
        cached: v.cached || undefined,
        error: v.error || undefined,
        progressGroup: v.progressGroup && {
          id: v.progressGroup.id || undefined,
          name: v.progressGroup.name || undefined,
          weak: v.progressGroup.weak || undefined,
        },
      })),
    ),
    statuses: filled(
      status.statuses.map((s) => ({
        id: s.id,
        vertex: s.vertex || undefined,
        name: s.name || undefined,
        total: s.total || undefined,
        current: s.current,
        timestamp: timeText(s.timestamp),
        started: timeText(s.started),
        completed: timeText(s.completed),
      })),
    ),
    logs: filled(
      status.logs.map((l) => ({
        vertex: l.vertex || undefined,
        stream: l.stream || undefined,
        data: base64(l.data),
        timestamp: timeText(l.timestamp),
      })),
    ),
    warnings: filled(
      status.warnings.map((w) => ({
        vertex: w.vertex || undefined,
        level: w.level || undefined,
        short: base64(w.short) || undefined,
        detail: filled(w.detail.map(base64)),
        url: w.url || undefined,
        sourceInfo: w.sourceInfo && sourceJson(w.sourceInfo),
        range: filled(w.ranges.map(rangeJson)),
      })),
    ),
  };
  return `${goJson(message)}\n`;
}

function sourceJson(info: SourceInfo) {
  return {
    filename: info.filename || undefined,
    data: base64(info.data) || undefined,
    language: info.language || undefined,
  };
}

function rangeJson(range: SourceRange) {
  const position = ({ line, character }: SourceRange['start']) => ({
    line: line || undefined,
    character: character || undefined,
  });
  return { start: position(range.start), end: position(range.end) };
}

function filled<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length > 0 ? list : undefined;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

/** RFC 3339 with as many digits of the second as needed. */
export function timeText(nanos: bigint | undefined): string | undefined {
  if (nanos === undefined) return undefined;
  const seconds = Number(nanos / 1_000_000_000n);
  const fraction = (nanos % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  const base = new Date(seconds * 1000).toISOString().slice(0, 19);
  return fraction === '' ? `${base}Z` : `${base}.${fraction}Z`;
}
