import {
  type CheckPolicyRequest,
  type CheckPolicyResponse,
  PolicyVerifierDefinition,
} from '../../pb/policysession.ts';
import type { Session } from '../manager.ts';

/** A client that says which sources its build may use (FEATURES C24). */
export type PolicyVerifier = (
  request: CheckPolicyRequest,
  signal: AbortSignal,
) => Promise<CheckPolicyResponse>;

export function policyVerifier(session: Session): PolicyVerifier {
  const client = session.client(PolicyVerifierDefinition);
  return (request, signal) =>
    client.checkPolicy(request, { signal: AbortSignal.any([signal, session.signal]) });
}
