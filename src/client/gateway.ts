import { runFrontendFor } from '../gateway/gateway.ts';
import type { Frontend } from '../gateway/types.ts';
import { Metadata } from '../rpc/metadata.ts';
import type { Client } from './client.ts';

const BUILD_ID = 'buildkit-controlapi-buildid';

export interface GatewayRequest {
  /** The build that has been opened by Control.Solve. */
  readonly ref: string;
  readonly session: string;
  readonly product: string;
  readonly options: Readonly<Record<string, string>>;
  readonly run: Frontend;
  readonly signal: AbortSignal;
}

/**
 * Runs a frontend inside an open build (FEATURES B9 c, B45).
 * @returns the metadata of its result
 */
export async function runGateway(
  client: Client,
  { ref, session, product, options, run, signal }: GatewayRequest,
): Promise<Record<string, Uint8Array>> {
  const channel = await client.channel();
  const metadata = Metadata.of({ [BUILD_ID]: ref });
  const result = await runFrontendFor(
    { channel, metadata, options, sessionId: session, product, signal },
    run,
  );
  const encoder = new TextEncoder();
  const all = Object.entries(result?.metadata ?? {}).map(
    ([key, value]) => [key, typeof value === 'string' ? encoder.encode(value) : value] as const,
  );
  return Object.fromEntries(all);
}
