import type { RefManager } from '../cache/ref.ts';
import type * as pb from '../pb/control.ts';
import type { BuildkitVersion, WorkerRecord } from '../pb/worker.ts';
import type { Metadata } from '../rpc/metadata.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import { duplexOf } from '../rpc/tunnel.ts';
import { SessionControlDefinition } from '../session/wire.ts';
import type { ServerCall } from '../rpc/types.ts';
import type { History } from './history/history.ts';
import { toldCode } from './told-code.ts';
import { pruneFromWire, usageToWire } from './usage-wire.ts';
import { matchWorkers } from './worker-filter.ts';

const TIMESTAMP_KEY = 'buildkit-current-timestamp';
/** Names the client's folders in calls of Solve; of this project's client. */
const FOLDERS_KEY = 'buildkitts-folders';

export interface ControlServices {
  readonly refs: RefManager;
  /** Lets go of what is kept beside the records; called before they are pruned. */
  readonly forget: () => void;
  readonly version: BuildkitVersion;
  readonly workers: () => Promise<readonly WorkerRecord[]>;
  readonly solve: (
    request: pb.SolveRequest,
    signal: AbortSignal,
    folders: string | undefined,
  ) => Promise<Record<string, string>>;
  readonly status: (ref: string, signal: AbortSignal) => AsyncIterable<pb.StatusResponse>;
  readonly history: History;
  /** Serves a client's session until it ends. */
  readonly session: (
    stream: ReturnType<typeof duplexOf>,
    metadata: Metadata,
    signal: AbortSignal,
  ) => Promise<void>;
}

/** The Control service (FEATURES B1). */
export function controlService(services: ControlServices): RegisteredService {
  return service(
    SessionControlDefinition,
    {
      info: async () => ({ buildkitVersion: services.version }),
      listWorkers: async (request) => ({ record: matchWorkers(await services.workers(), request.filter) }),
      diskUsage: async (request, call) => {
        const ageLimitMs = Number(request.ageLimit / 1_000_000n);
        const records = await services.refs.diskUsage({
          filters: request.filter,
          signal: call.signal,
          ...(ageLimitMs > 0 ? { ageLimitMs } : {}),
        });
        return { record: records.map(usageToWire) };
      },
      prune: (request, call) => prune(services, request, call),
      solve: async (request, { signal, metadata }) => ({
        ExporterResponse: await services.solve(request, signal, metadata.get(FOLDERS_KEY)),
      }),
      status: (request, call) => {
        sendTime(call);
        return services.status(request.Ref, call.signal);
      },
      session: (stream, call) => services.session(duplexOf(stream), call.metadata, call.signal),
      listenBuildHistory: (request, call) => {
        sendTime(call);
        return services.history.listen(request, call.signal);
      },
      updateBuildHistory: async (request, call) => {
        await updateHistory(services.history, request, call.signal);
        return {};
      },
    },
    toldCode,
  );
}

async function* prune(
  services: ControlServices,
  request: pb.PruneRequest,
  call: ServerCall,
): AsyncGenerator<pb.UsageRecord> {
  services.forget();
  for await (const record of services.refs.prune([pruneFromWire(request)], { signal: call.signal }))
    yield usageToWire(record);
}

async function updateHistory(
  history: History,
  request: pb.UpdateBuildHistoryRequest,
  signal: AbortSignal,
): Promise<void> {
  const { Ref: ref, Delete: isDelete, Finalize: isFinalize, Pinned: pinned } = request;
  if (isDelete) await history.delete(ref);
  else if (isFinalize) await history.finalize(ref, signal);
  else history.pin(ref, pinned);
}

/** Clients take the offset of their clock from it. */
function sendTime(call: ServerCall): void {
  call.setHeader(TIMESTAMP_KEY, rfc3339Nano());
  call.sendHeaders();
}

/** The wall clock as RFC 3339 with nanoseconds. */
function rfc3339Nano(): string {
  return new Date().toISOString().replace('Z', '000000Z');
}
