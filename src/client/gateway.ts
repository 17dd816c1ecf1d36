import { BuildError, Code } from '../base/errors.ts';
import type { APICap } from '../pb/caps.ts';
import { LLBBridgeDefinition, type Result, type SolveRequest } from '../pb/gateway.ts';
import { Definition } from '../pb/ops.ts';
import { Metadata } from '../rpc/metadata.ts';
import { statusOf } from '../rpc/status.ts';
import type { Client } from './client.ts';
import type { CacheEntry } from './solve-types.ts';

const BUILD_ID = 'buildkit-controlapi-buildid';
const PING_TIMEOUT_MS = 15_000;

export interface GatewayRequest {
  /** The build that has been opened by Control.Solve. */
  readonly ref: string;
  readonly definition?: Uint8Array;
  readonly frontend?: string;
  readonly frontendAttrs: Readonly<Record<string, string>>;
  readonly cacheImports?: readonly CacheEntry[];
  readonly signal: AbortSignal;
}

/** Solves inside an open build and hands the result, or the error, back to it (FEATURES B9 c, B45). */
export async function runGateway(
  client: Client,
  request: GatewayRequest,
): Promise<Record<string, Uint8Array>> {
  const bridge = await client.service(LLBBridgeDefinition);
  const options = { metadata: Metadata.of({ [BUILD_ID]: request.ref }), signal: request.signal };
  const pong = await bridge.ping({}, { ...options, timeoutMs: PING_TIMEOUT_MS });
  requireCap(pong.FrontendAPICaps, 'return');
  let result: Result;
  try {
    const response = await bridge.solve(solveMessage(request, pong.LLBCaps), options);
    result = response.result ?? {
      result: { $case: 'refDeprecated', value: response.ref },
      metadata: {},
      attestations: {},
    };
  } catch (error) {
    // The build ends with this error, so that it is said by Control.Solve as well.
    await bridge.return({ result: undefined, error: statusOf(error) }, options).catch(() => {});
    throw error;
  }
  await bridge.return({ result, error: undefined }, options);
  return result.metadata;
}

function solveMessage(request: GatewayRequest, llbCaps: readonly APICap[]): SolveRequest {
  const definition = request.definition && Definition.decode(request.definition);
  for (const metadata of Object.values(definition?.metadata ?? {}))
    for (const cap of Object.keys(metadata.caps)) requireCap(llbCaps, cap);
  return {
    Definition: definition,
    Frontend: request.frontend ?? '',
    FrontendOpt: { ...request.frontendAttrs },
    allowResultReturn: true,
    allowResultArrayRef: true,
    Final: false,
    ExporterAttr: new Uint8Array(),
    CacheImports: (request.cacheImports ?? []).map(({ type, attrs }) => ({
      Type: type,
      Attrs: { ...attrs },
    })),
    FrontendInputs: {},
    Evaluate: false,
    SourcePolicies: [],
  };
}

/** @throws BuildError when the daemon does not list the capability, or lists it as disabled. */
function requireCap(caps: readonly APICap[], id: string): void {
  const cap = caps.find((c) => c.ID === id);
  if (cap?.Enabled) return;
  const reason = cap?.DisabledReasonMsg ? `: ${cap.DisabledReasonMsg}` : '';
  throw new BuildError(`requested feature ${JSON.stringify(id)} is not supported by the daemon${reason}`, {
    code: Code.unimplemented,
  });
}
