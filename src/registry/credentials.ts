/**
 * Where registry credentials come from: the sessions of the clients that want the work done. The methods may be
 * called at any time while the request runs; they reject when no session answers.
 */
export interface Credentials {
  /** Ids of the sessions that are asked, in order; empty = nobody to ask. */
  sessions(): readonly string[];
  /** Name and secret for a registry server; both '' when the client knows none. */
  credentials(host: string, options: { signal: AbortSignal }): Promise<SessionSecret>;
  /** Public key of a client that fetches tokens itself; undefined when none does. */
  tokenAuthority(host: string, options: { signal: AbortSignal }): Promise<TokenAuthority | undefined>;
  /** The session that can prove that it is the authority behind `key`. */
  verifyTokenAuthority(
    host: string,
    key: Uint8Array,
    options: { signal: AbortSignal },
  ): Promise<string | undefined>;
  /** A token fetched by the client. */
  fetchToken(request: TokenRequest, options: { signal: AbortSignal }): Promise<FetchedToken>;
}

export interface SessionSecret {
  readonly sessionId: string;
  /** '' with a secret: the secret is a refresh token. */
  readonly username: string;
  readonly secret: string;
}

export interface TokenAuthority {
  readonly sessionId: string;
  readonly key: Uint8Array;
}

export interface TokenRequest {
  readonly clientId: string;
  readonly host: string;
  readonly realm: string;
  readonly service: string;
  readonly scopes: readonly string[];
}

export interface FetchedToken {
  readonly token: string;
  /** Seconds; 0 when the server does not say. */
  readonly expiresIn: number;
  /** Unix seconds; 0 when the server does not say. */
  readonly issuedAt: number;
}

/** Nobody to ask: anonymous access only. */
export const anonymous: Credentials = {
  sessions: () => [],
  credentials: () => Promise.resolve({ sessionId: '', username: '', secret: '' }),
  tokenAuthority: () => Promise.resolve(undefined),
  verifyTokenAuthority: () => Promise.resolve(undefined),
  fetchToken: () => Promise.reject(new Error('no active sessions')),
};
