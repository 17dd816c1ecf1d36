import { runFrontendFor } from '../gateway/gateway.ts';
import type { Frontend } from '../gateway/types.ts';
import { LLBBridgeDefinition } from '../pb/gateway.ts';
import { Metadata } from '../rpc/metadata.ts';
import type { CallOptions, Client as TypedClient } from '../rpc/types.ts';
import type { Client } from './client.ts';

const BUILD_ID = 'buildkit-controlapi-buildid';

type Bridge = TypedClient<typeof LLBBridgeDefinition>;

export interface GatewayRequest {
  /** The build that has been opened by Control.Solve. */
  readonly ref: string;
  readonly session: string;
  readonly product: string;
  readonly options: Readonly<Record<string, string>>;
  readonly run: Frontend;
  /** Asked before the build ends with the error of a step. */
  readonly onFailure?: (error: unknown, bridge: Bridge, options: CallOptions) => Promise<void>;
  readonly signal: AbortSignal;
}

/**
 * Runs a frontend inside an open build (FEATURES B9 c, B45).
 * @returns the metadata of its result
 */
export async function runGateway(
  client: Client,
  { ref, session, product, options, run, onFailure, signal }: GatewayRequest,
): Promise<Record<string, Uint8Array>> {
  const channel = await client.channel();
  const metadata = Metadata.of({ [BUILD_ID]: ref });
  const bridge = (): Bridge => channel.client(LLBBridgeDefinition);
  const result = await runFrontendFor(
    { channel, metadata, options, sessionId: session, product, signal },
    onFailure ? withFailures(run, (e) => onFailure(e, bridge(), { metadata, signal }), signal) : run,
  );
  const encoder = new TextEncoder();
  const all = Object.entries(result?.metadata ?? {}).map(
    ([key, value]) => [key, typeof value === 'string' ? encoder.encode(value) : value] as const,
  );
  return Object.fromEntries(all);
}

/** `run`, with all of its steps done while the build is open: those that fail later cannot be looked into. */
function withFailures(
  run: Frontend,
  onFailure: (error: unknown) => Promise<void>,
  signal: AbortSignal,
): Frontend {
  return async (gateway) => {
    try {
      const result = await run(gateway);
      const refs = [result?.ref, ...Object.values(result?.refs ?? {})];
      await Promise.all(refs.map((ref) => ref?.evaluate()));
      return result;
    } catch (error) {
      if (!signal.aborted) await onFailure(error);
      throw error;
    }
  };
}
