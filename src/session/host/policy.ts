import {
  type CheckPolicyRequest,
  type CheckPolicyResponse,
  PolicyVerifierDefinition,
} from '../../pb/policysession.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';

/** Says of each source of a build whether it may be used (FEATURES C24). What `check` throws refuses the source. */
export function policyService(
  check: (request: CheckPolicyRequest, signal: AbortSignal) => Promise<CheckPolicyResponse>,
): RegisteredService {
  return service(PolicyVerifierDefinition, {
    checkPolicy: (request, call) => check(request, call.signal),
  });
}
