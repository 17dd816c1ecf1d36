import { BuildError, Code } from '../base/errors.ts';
import type { RefManager } from '../cache/ref.ts';
import type * as pb from '../pb/control.ts';
import { ControlDefinition } from '../pb/control.ts';
import type { BuildkitVersion, WorkerRecord } from '../pb/worker.ts';
import type { Metadata } from '../rpc/metadata.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import { duplexOf } from '../rpc/tunnel.ts';
import type { ServerCall } from '../rpc/types.ts';
import type { SolveStatus } from '../solver/types.ts';
import { statusToWire } from './status-wire.ts';
import { toldCode } from './told-code.ts';
import { pruneFromWire, usageToWire } from './usage-wire.ts';
import { matchWorkers } from './worker-filter.ts';

const TIMESTAMP_KEY = 'buildkit-current-timestamp';

export interface ControlServices {
  readonly refs: RefManager;
  /** Lets go of what is kept beside the records; called before they are pruned. */
  readonly forget: () => void;
  readonly version: BuildkitVersion;
  readonly workers: () => Promise<readonly WorkerRecord[]>;
  readonly solve: (request: pb.SolveRequest, signal: AbortSignal) => Promise<Record<string, string>>;
  readonly status: (ref: string, signal: AbortSignal) => Promise<AsyncIterable<SolveStatus>>;
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
    ControlDefinition,
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
      solve: async (request, call) => ({ ExporterResponse: await services.solve(request, call.signal) }),
      status: (request, call) => status(services, request, call),
      session: (stream, call) => services.session(duplexOf(stream), call.metadata, call.signal),
      listenBuildHistory: () => {
        throw new BuildError('build history is not supported yet', { code: Code.unimplemented });
      },
      updateBuildHistory: () => {
        throw new BuildError('build history is not supported yet', { code: Code.unimplemented });
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

async function* status(
  services: ControlServices,
  request: pb.StatusRequest,
  call: ServerCall,
): AsyncGenerator<pb.StatusResponse> {
  call.setHeader(TIMESTAMP_KEY, rfc3339Nano());
  call.sendHeaders();
  for await (const update of await services.status(request.Ref, call.signal)) yield* statusToWire(update);
}

/** The wall clock as RFC 3339 with nanoseconds; clients take their offset from it. */
function rfc3339Nano(): string {
  return new Date().toISOString().replace('Z', '000000Z');
}
