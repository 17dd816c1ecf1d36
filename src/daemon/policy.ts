import { BuildError } from '../base/errors.ts';
import type { SourceMeta, SourceMetaRequest } from '../frontend/bridge.ts';
import { type Definition, Op } from '../llb/ops.ts';
import { platformToMessage } from '../llb/platform.ts';
import { rewriteSources } from '../llb/rewrite.ts';
import { type PolicyVerifier, policyVerifier } from '../session/caller/policy.ts';
import type { SessionManager } from '../session/manager.ts';
import { metaRequestFromWire, sourceMetaToWire } from './gateway.ts';
import { SourcePolicy } from './source-policy.ts';

/** Finds the client that has the policy, by its session. */
export function verifierFinder(sessions: SessionManager) {
  return async (sessionId: string, signal: AbortSignal): Promise<PolicyVerifier> =>
    policyVerifier(await sessions.get(sessionId, signal));
}

/** The policy of a build; undefined when it has none. */
export function policyOf(
  sessionId: string,
  services: { readonly verifierOf: ReturnType<typeof verifierFinder> },
  resolve: (request: SourceMetaRequest, signal: AbortSignal) => Promise<SourceMeta>,
): SourcePolicy | undefined {
  if (sessionId === '') return undefined;
  return new SourcePolicy({
    verifier: (signal) => services.verifierOf(sessionId, signal),
    resolve: async (request, signal) => sourceMetaToWire(await resolve(metaRequestFromWire(request), signal)),
  });
}

/** The definition with the sources that the policy wants. */
export async function allowedDefinition(
  definition: Definition,
  policy: SourcePolicy,
  signal: AbortSignal,
): Promise<Definition> {
  try {
    return await rewriteSources(definition, async (op) => {
      try {
        return await policy.apply(op, signal);
      } catch (error) {
        throw BuildError.wrap(error, 'error evaluating the source policy');
      }
    });
  } catch (error) {
    throw BuildError.wrap(error, 'failed to load LLB');
  }
}

/** The look-up with the source that the policy wants. */
export async function allowedRequest(
  request: SourceMetaRequest,
  policy: SourcePolicy,
  signal: AbortSignal,
): Promise<SourceMetaRequest> {
  const { identifier, attrs } = request.source;
  const { platform } = request;
  const op = Op.fromPartial({
    op: { $case: 'source', value: { identifier, attrs: { ...attrs } } },
    ...(platform ? { platform: platformToMessage(platform) } : {}),
  });
  try {
    await policy.apply(op, signal);
  } catch (error) {
    throw BuildError.wrap(error, 'could not resolve image due to policy');
  }
  return op.op?.$case === 'source' ? { ...request, source: op.op.value } : request;
}
