import { Code, hasCode } from '../../base/errors.ts';
import { ExporterDefinition, type ExporterRequest } from '../../pb/exporter.ts';
import type { Session } from '../manager.ts';

/** Outputs that a client chooses when it knows the result (FEATURES C23). */
export interface SessionExporters {
  /** `refs` are names of the result's trees, for the client's own look into them. */
  find(
    result: { readonly metadata: ReadonlyMap<string, Uint8Array>; readonly refs: readonly string[] },
    signal: AbortSignal,
  ): Promise<readonly ExporterRequest[]>;
  /** Tells what all exporters of the build answered. */
  finish(response: Readonly<Record<string, string>>, signal: AbortSignal): Promise<void>;
}

/** A client that does not take part chooses none and is told nothing. */
export function sessionExporters(session: Session): SessionExporters {
  const client = session.client(ExporterDefinition);
  const both = (signal: AbortSignal): AbortSignal => AbortSignal.any([signal, session.signal]);
  return {
    find: async ({ metadata, refs }, signal) => {
      try {
        const request = { metadata: Object.fromEntries(metadata), refs: [...refs] };
        return (await client.findExporters(request, { signal: both(signal) })).exporters;
      } catch (error) {
        return absent(error, session, []);
      }
    },
    finish: async (response, signal) => {
      try {
        await client.finalizeExport({ exporterResponse: { ...response } }, { signal: both(signal) });
      } catch (error) {
        absent(error, session, undefined);
      }
    },
  };
}

function absent<T>(error: unknown, session: Session, value: T): T {
  const isAbsent = hasCode(error, Code.unimplemented) || hasCode(error, Code.unavailable);
  if (!isAbsent || session.signal.aborted) throw error;
  return value;
}
