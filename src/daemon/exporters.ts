import type { Exporter, ExportTarget } from '../exporter/exporter.ts';
import { createExporter } from '../exporter/create.ts';
import { putBlob, sessionContent } from '../session/caller/content.ts';
import { type SessionExporters, sessionExporters } from '../session/caller/exporters.ts';
import { openFileSend, sendDirectory } from '../session/caller/filesend.ts';
import type { Session, SessionManager } from '../session/manager.ts';
import type { Worker } from './worker.ts';

/** How long an export waits for its client's session, milliseconds. */
const SESSION_WAIT_MS = 5000;

/** What the client calls the content store that it wants images in. */
const EXPORT_STORE = 'export';

export interface ExporterRequest {
  readonly type: string;
  readonly attrs: Readonly<Record<string, string>>;
  /** Place in the request; names the client's target (FEATURES C14). */
  readonly index: number;
  readonly sessionId: string;
}

/** @throws BuildError for an unknown type (FEATURES J1) or attributes that make no sense */
export type MakeExporter = (request: ExporterRequest) => Exporter;

export function exporterMaker(worker: Worker, sessions: SessionManager): MakeExporter {
  const { content, leases } = worker.store;
  const services = {
    content,
    leases,
    registry: worker.registry,
    mount: worker.mountLocally,
    jobs: worker.jobs,
  };
  return (request) =>
    createExporter(request.type, request.attrs, services, exportTarget(request, worker, sessions));
}

/** Finds the client that chooses exporters by the result, by its session. */
export function chooserFinder(sessions: SessionManager) {
  return async (sessionId: string, signal: AbortSignal): Promise<SessionExporters> => {
    const soon = AbortSignal.any([signal, AbortSignal.timeout(SESSION_WAIT_MS)]);
    return sessionExporters(await sessions.get(sessionId, soon));
  };
}

function exportTarget(
  { index, sessionId }: ExporterRequest,
  worker: Worker,
  sessions: SessionManager,
): ExportTarget {
  const session = (signal: AbortSignal): Promise<Session> =>
    sessions.get(sessionId, AbortSignal.any([signal, AbortSignal.timeout(SESSION_WAIT_MS)]));
  return {
    openFile: async ({ metadata, signal }) => {
      const client = await session(signal);
      const options = { exporterId: index, signal: AbortSignal.any([signal, client.signal]) };
      return openFileSend(client, metadata ? { ...options, metadata } : options);
    },
    sendDirectory: async (tree, { signal, onProgress, deleteOthers }) => {
      const client = await session(signal);
      await sendDirectory(client, tree, {
        exporterId: index,
        signal: AbortSignal.any([signal, client.signal]),
        mirror: deleteOthers,
        onProgress,
      });
    },
    contentStore: async (signal) => {
      const client = await session(signal);
      const store = sessionContent(client, EXPORT_STORE);
      return { put: (blob, data, options) => putBlob(store, blob, data, options) };
    },
    credentials: worker.sources.credentials.of(() => [sessionId]),
  };
}
