import type { RegisteredService } from '../rpc/server.ts';
import type { SolveRequest } from './solve-types.ts';

/** Registry credentials and ssh agents, which the daemon asks for while it builds. */
export async function lendingServices(_request: SolveRequest): Promise<RegisteredService[]> {
  return [];
}
