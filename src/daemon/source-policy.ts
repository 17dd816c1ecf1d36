import { BuildError } from '../base/errors.ts';
import type { Op, SourceOp } from '../llb/ops.ts';
import type { ResolveSourceMetaRequest, ResolveSourceMetaResponse } from '../pb/gateway.ts';
import type { DecisionResponse } from '../pb/policysession.ts';
import { PolicyAction } from '../pb/sourcepolicy.ts';
import type { PolicyVerifier } from '../session/caller/policy.ts';
import { normalizedSource } from './source-name.ts';

/** Questions and conversions about one source, at most. */
const MAX_ROUNDS = 10;

export interface PolicyServices {
  /** Makes of a source what the policies that came with the request want. @throws BuildError for a denied one */
  readonly rules?: (source: SourceOp) => void;
  /** Waits for the client that wants to be asked. */
  readonly verifier?: (signal: AbortSignal) => Promise<PolicyVerifier>;
  /** Looks a source up for the policy, which is not asked about it again. */
  readonly resolve: (
    request: ResolveSourceMetaRequest,
    signal: AbortSignal,
  ) => Promise<ResolveSourceMetaResponse>;
}

/** What a client says of the sources that may be used: rules, and questions to it (FEATURES I23, C24). */
export class SourcePolicy {
  readonly #services: PolicyServices;

  constructor(services: PolicyServices) {
    this.#services = services;
  }

  /**
   * Makes of a source op what the policy wants. True when that is something else.
   * @throws BuildError for a source that is not allowed, with the client's reasons
   */
  async apply(op: Op, signal: AbortSignal): Promise<boolean> {
    if (op.op?.$case !== 'source') return false;
    const given = JSON.stringify(op.op.value);
    const verifier = await this.#services.verifier?.(signal);
    let left: number | undefined = MAX_ROUNDS;
    while (left !== undefined) left = await this.#round(op, verifier, left, signal);
    return JSON.stringify(op.op.value) !== given;
  }

  /** Asks until there is a decision. Gives the rounds that are left when it was to convert. */
  async #round(
    op: Op,
    verifier: PolicyVerifier | undefined,
    rounds: number,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    if (op.op?.$case !== 'source') return undefined;
    const source = op.op.value;
    this.#applyRules(source);
    if (!verifier) return undefined;
    let known: ResolveSourceMetaResponse = {
      Source: source,
      Image: undefined,
      Git: undefined,
      HTTP: undefined,
    };
    for (let left = rounds - 1; left >= 0; left--) {
      const { result } = await verifier({ Platform: op.platform, Source: known, caps: {} }, signal);
      if (result?.$case !== 'request') return decide(op, source, result?.value) ? left : undefined;
      known = await this.#answer(result.value, source, signal);
    }
    throw new BuildError('too many policy requests');
  }

  #applyRules(source: SourceOp): void {
    source.identifier = normalizedSource(source);
    this.#services.rules?.(source);
  }

  async #answer(
    request: ResolveSourceMetaRequest,
    source: SourceOp,
    signal: AbortSignal,
  ): Promise<ResolveSourceMetaResponse> {
    const { identifier = '', attrs = {} } = request.Source ?? {};
    if (identifier !== source.identifier) {
      const [asked, real] = [identifier, source.identifier].map((id) => JSON.stringify(id));
      throw new BuildError(`policy requested different source identifier: ${asked} != ${real}`);
    }
    const keys = new Set([...Object.keys(attrs), ...Object.keys(source.attrs)]);
    const odd = [...keys].find((key) => attrs[key] !== source.attrs[key]);
    if (odd !== undefined)
      throw new BuildError(`policy requested different source attrs: value mismatch for key ${odd}`);
    try {
      return await this.#services.resolve(request, signal);
    } catch (error) {
      throw BuildError.wrap(error, 'error resolving source metadata from policy request');
    }
  }
}

/** True when the op became another, about which the policy is asked again. */
function decide(op: Op, source: SourceOp, decision: DecisionResponse | undefined): boolean {
  if (!decision) throw new BuildError('no decision in policy response');
  if (decision.action === PolicyAction.CONVERT) {
    if (!decision.update) throw new BuildError('convert action requires updated source');
    op.op = { $case: 'source', value: decision.update };
    return true;
  }
  if (decision.action === PolicyAction.ALLOW) return false;
  const action = decision.action === PolicyAction.DENY ? 'DENY' : String(decision.action);
  const error = new BuildError(
    `source ${JSON.stringify(source.identifier)} not allowed by policy: action ${action}`,
  );
  if (decision.denyMessages.length === 0) throw error;
  const denyMessages = decision.denyMessages.map(({ message }) => (message === '' ? {} : { message }));
  throw error.with({
    type: 'policysession.DecisionResponse',
    value: { action: PolicyAction.DENY, denyMessages },
  });
}
