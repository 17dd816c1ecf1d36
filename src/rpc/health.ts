import { BuildError, Code } from '../base/errors.ts';
import { HealthCheckResponse_ServingStatus, HealthDefinition } from '../pb/health.ts';
import { type RegisteredService, service } from './server.ts';

/** `grpc.health.v1.Health`: SERVING for the server as a whole and for each named service. */
export function healthService(names: readonly string[]): RegisteredService {
  const known = new Set(['', ...names]);
  const status = HealthCheckResponse_ServingStatus.SERVING;
  return service(HealthDefinition, {
    check: async (request) => {
      if (!known.has(request.service)) throw new BuildError('unknown service', { code: Code.notFound });
      return { status };
    },
    list: async () => ({ statuses: Object.fromEntries([...known].map((name) => [name, { status }])) }),
    watch: async function* (request, call) {
      yield {
        status: known.has(request.service) ? status : HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN,
      };
      if (!call.signal.aborted)
        await new Promise<void>((resolve) =>
          call.signal.addEventListener('abort', () => resolve(), { once: true }),
        );
    },
  });
}
