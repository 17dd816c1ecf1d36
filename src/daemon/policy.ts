import { BuildError } from '../base/errors.ts';
import type { SourceMeta, SourceMetaRequest } from '../frontend/bridge.ts';
import { type Definition, Op } from '../llb/ops.ts';
import { platformToMessage } from '../llb/platform.ts';
import { rewriteSources } from '../llb/rewrite.ts';
import { type PolicyVerifier, policyVerifier } from '../session/caller/policy.ts';
import type { SessionManager } from '../session/manager.ts';
import type { SolveRequest } from '../pb/control.ts';
import type { Policy } from '../pb/sourcepolicy.ts';
import { metaRequestFromWire, sourceMetaToWire } from './gateway.ts';
import { applyRules, PatternCache, validatePolicy } from './policy-rules.ts';
import { SourcePolicy } from './source-policy.ts';

/** Finds the client that has the policy, by its session. */
export function verifierFinder(sessions: SessionManager) {
  return async (sessionId: string, signal: AbortSignal): Promise<PolicyVerifier> =>
    policyVerifier(await sessions.get(sessionId, signal));
}

export interface BuildPolicies {
  /** For a definition, below these policies that came with it. */
  forDefinition(own: readonly Policy[]): SourcePolicy | undefined;
  /** For a look-up, below these policies that came with it. */
  forLookUp(own: readonly Policy[]): SourcePolicy | undefined;
}

/** The policies of a build and of what is asked in it. @throws BuildError for a policy that cannot be read */
export function policiesOf(
  request: Pick<SolveRequest, 'SourcePolicy' | 'SourcePolicySession'>,
  services: { readonly verifierOf: ReturnType<typeof verifierFinder> },
  resolve: (request: SourceMetaRequest, signal: AbortSignal) => Promise<SourceMeta>,
): BuildPolicies {
  const { SourcePolicy: wide, SourcePolicySession: sessionId } = request;
  const all = wide && wide.rules.length > 0 ? [wide] : [];
  for (const policy of all) validatePolicy(policy);
  const patterns = new PatternCache();
  const below = (policies: readonly Policy[]): SourcePolicy | undefined => {
    if (policies.length === 0 && sessionId === '') return undefined;
    for (const policy of policies) validatePolicy(policy);
    return new SourcePolicy({
      rules: (source) => void applyRules(source, policies, patterns),
      ...(sessionId === '' ? {} : { verifier: (signal) => services.verifierOf(sessionId, signal) }),
      resolve: async (wire, signal) => {
        const meta = metaRequestFromWire(wire);
        const source = { ...meta.source, attrs: { ...meta.source.attrs } };
        applyRules(source, all, patterns);
        return sourceMetaToWire(await resolve({ ...meta, source }, signal));
      },
    });
  };
  return { forDefinition: (own) => below([...all, ...own]), forLookUp: (own) => below([...own, ...all]) };
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

/** The look-up with the source that the policies want. */
export async function allowedRequest(
  request: SourceMetaRequest,
  policies: BuildPolicies,
  signal: AbortSignal,
): Promise<SourceMetaRequest> {
  const policy = policies.forLookUp(request.sourcePolicies ?? []);
  if (!policy) return request;
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
