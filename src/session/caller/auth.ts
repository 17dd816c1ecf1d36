import {
  AuthDefinition,
  type CredentialsResponse,
  type FetchTokenRequest,
  type FetchTokenResponse,
} from '../../pb/auth.ts';
import { BuildError, Code } from '../../base/errors.ts';
import { methodPath, type Session } from '../manager.ts';

const TIMEOUT_MS = 60_000;

/** A client's registry credentials (FEATURES C15, C16). Every call may fail with unimplemented or unavailable. */
export interface SessionAuth {
  readonly sessionId: string;
  credentials(host: string, signal: AbortSignal): Promise<CredentialsResponse>;
  fetchToken(request: FetchTokenRequest, signal: AbortSignal): Promise<FetchTokenResponse>;
  /** 32-byte ed25519 public key that stands for the client's secret for `host`, given our salt. */
  tokenAuthority(host: string, salt: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
  /** The client's signature (64 bytes) followed by the payload. */
  verifyTokenAuthority(
    host: string,
    payload: Uint8Array,
    salt: Uint8Array,
    signal: AbortSignal,
  ): Promise<Uint8Array>;
}

export function sessionAuth(session: Session): SessionAuth {
  const client = session.client(AuthDefinition);
  const options = (method: keyof typeof AuthDefinition.methods, signal: AbortSignal) => {
    const path = methodPath(AuthDefinition, method);
    if (!session.supports(path))
      throw new BuildError(`method ${path} not supported by the client`, { code: Code.unimplemented });
    return { signal, timeoutMs: TIMEOUT_MS };
  };
  return {
    sessionId: session.id,
    credentials: async (host, signal) =>
      await client.credentials({ Host: host }, options('credentials', signal)),
    fetchToken: async (request, signal) => await client.fetchToken(request, options('fetchToken', signal)),
    tokenAuthority: async (Host, Salt, signal) =>
      (await client.getTokenAuthority({ Host, Salt }, options('getTokenAuthority', signal))).PublicKey,
    verifyTokenAuthority: async (Host, Payload, Salt, signal) =>
      (await client.verifyTokenAuthority({ Host, Payload, Salt }, options('verifyTokenAuthority', signal)))
        .Signed,
  };
}
