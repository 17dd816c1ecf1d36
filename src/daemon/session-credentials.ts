import { createPublicKey, randomBytes, verify } from 'node:crypto';
import { Code, hasCode } from '../base/errors.ts';
import type { Credentials } from '../registry/credentials.ts';
import { type SessionAuth, sessionAuth } from '../session/caller/auth.ts';
import type { SessionManager } from '../session/manager.ts';

const SIGNATURE_BYTES = 64;
const PAYLOAD_BYTES = 32;
/** DER in front of a raw ed25519 public key (RFC 8410). */
const ED25519_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Registry credentials of the clients behind a set of sessions (FEATURES C15, C16). */
export class SessionCredentials {
  readonly #sessions: SessionManager;
  /** Random per daemon start, so that a client's keys mean nothing elsewhere. */
  readonly #salt = randomBytes(32);

  constructor(sessions: SessionManager) {
    this.#sessions = sessions;
  }

  of(ids: () => readonly string[]): Credentials {
    const any = <T>(
      signal: AbortSignal,
      work: (auth: SessionAuth, signal: AbortSignal) => Promise<T>,
    ): Promise<T> => this.#sessions.any(ids(), signal, (session, both) => work(sessionAuth(session), both));
    return {
      sessions: ids,
      credentials: (host, { signal }) =>
        any(signal, async (auth, both) => {
          const { Username, Secret } = await auth.credentials(host, both);
          return { sessionId: auth.sessionId, username: Username, secret: Secret };
        }),
      tokenAuthority: (host, { signal }) =>
        any(signal, async (auth, both) => {
          try {
            return { sessionId: auth.sessionId, key: await auth.tokenAuthority(host, this.#salt, both) };
          } catch (error) {
            // The client fetches no tokens itself.
            if (hasCode(error, Code.unavailable) || hasCode(error, Code.unimplemented)) return undefined;
            throw error;
          }
        }),
      verifyTokenAuthority: (host, key, { signal }) =>
        any(signal, async (auth, both) => {
          const payload = randomBytes(PAYLOAD_BYTES);
          const signed = await auth.verifyTokenAuthority(host, payload, this.#salt, both);
          return isSignedBy(key, signed, payload) ? auth.sessionId : undefined;
        }),
      fetchToken: ({ clientId, host, realm, service, scopes }, { signal }) =>
        any(signal, async (auth, both) => {
          const request = {
            ClientID: clientId,
            Host: host,
            Realm: realm,
            Service: service,
            Scopes: [...scopes],
          };
          const { Token, ExpiresIn, IssuedAt } = await auth.fetchToken(request, both);
          return { token: Token, expiresIn: Number(ExpiresIn), issuedAt: Number(IssuedAt) };
        }),
    };
  }
}

/** `signed` is a signature with the payload behind it, as NaCl's sign makes it. */
function isSignedBy(key: Uint8Array, signed: Uint8Array, payload: Uint8Array): boolean {
  if (signed.length !== SIGNATURE_BYTES + payload.length) return false;
  if (!Buffer.from(signed.subarray(SIGNATURE_BYTES)).equals(payload)) return false;
  const publicKey = createPublicKey({
    key: Buffer.concat([ED25519_PREFIX, key]),
    format: 'der',
    type: 'spki',
  });
  return verify(null, payload, publicKey, signed.subarray(0, SIGNATURE_BYTES));
}
