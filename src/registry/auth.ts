import { BuildError, isCanceled } from '../base/errors.ts';
import { SharedTask } from '../base/shared-task.ts';
import { type Challenge, parseChallenges, Scopes } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { AuthorizationError, statusIn } from './errors.ts';
import type { HttpClient } from './http.ts';
import type { HttpResponse } from './response.ts';
import { type CachedToken, CLIENT_ID, cacheable, fetchToken, fromClient } from './token.ts';

/** Answers that have not been used for this long are forgotten. */
const UNUSED_MS = 10 * 60 * 1000;
/** What a token server answers to a name or secret that is no longer good. */
const REFUSED = [400, 401, 403];

/** How one server wants to be answered, for one set of credentials. */
interface HostAuth {
  readonly scheme: 'bearer' | 'basic';
  readonly host: string;
  readonly realm: string;
  readonly service: string;
  readonly scopes: readonly string[];
  readonly username: string;
  readonly secret: string;
  readonly authority: Uint8Array | undefined;
  /** Sessions that may use it; '' = requests without a session. */
  readonly sessions: Set<string>;
  readonly tokens: Map<string, CachedToken>;
  readonly fetching: Map<string, SharedTask<CachedToken>>;
  lastUsed: number;
}

/** Everything known of how servers want to be answered, by repository. Shared by all requests of the daemon. */
export class AuthCache {
  readonly #known = new Map<string, HostAuth[]>();

  list(key: string): HostAuth[] {
    const oldest = Date.now() - UNUSED_MS;
    for (const [k, entries] of this.#known) {
      const kept = entries.filter((entry) => entry.lastUsed >= oldest);
      if (kept.length) this.#known.set(k, kept);
      else this.#known.delete(k);
    }
    return this.#known.get(key) ?? [];
  }

  add(key: string, auth: HostAuth): void {
    const others = this.list(key).filter((entry) => {
      for (const session of auth.sessions) entry.sessions.delete(session);
      return entry.sessions.size > 0;
    });
    this.#known.set(key, [...others, auth]);
  }

  remove(key: string, auth: HostAuth): void {
    this.#known.set(
      key,
      this.list(key).filter((entry) => entry !== auth),
    );
  }
}

/** What was answered with 401. */
export interface RefusedRequest {
  /** The request before it was the same and got the same answer. */
  readonly repeated: boolean;
  /** The Authorization that it came with. */
  readonly header: string | undefined;
}

/** Answers the challenges of registry servers for one repository and one set of sessions (FEATURES F22). */
export class Authorizer {
  readonly #cache: AuthCache;
  readonly #namespace: string;
  readonly #credentials: Credentials;
  readonly #http: HttpClient;
  readonly #signal: AbortSignal;

  /** `namespace` parts what must not share tokens: repository, pull or push, sessions of a push. */
  constructor(
    cache: AuthCache,
    namespace: string,
    credentials: Credentials,
    http: HttpClient,
    signal: AbortSignal,
  ) {
    this.#cache = cache;
    this.#namespace = namespace;
    this.#credentials = credentials;
    this.#http = http;
    this.#signal = signal;
  }

  /** The Authorization header for `url`; undefined while the server has not asked for any. */
  async header(url: URL, scopes: readonly string[]): Promise<string | undefined> {
    const auth = await this.#find(url.host);
    if (!auth) return undefined;
    try {
      return await this.#answer(auth, scopes);
    } catch (error) {
      const renewed = REFUSED.includes(statusIn(error)) && (await this.#renew(auth));
      if (!renewed) throw BuildError.wrap(error, 'failed to authorize');
      return await this.#answer(renewed, scopes);
    }
  }

  /** Takes note of a 401. True: try again. */
  async challenged(response: HttpResponse, refused: RefusedRequest): Promise<boolean> {
    const host = response.url.host;
    for (const challenge of parseChallenges(response.headers('www-authenticate'))) {
      if (challenge.scheme === 'bearer') return this.#bearer(host, challenge, refused);
      if (await this.#basic(host, refused)) return true;
    }
    return false;
  }

  async #bearer(host: string, challenge: Challenge, { header, repeated }: RefusedRequest): Promise<boolean> {
    let auth = await this.#find(host);
    const problem = challenge.parameters.get('error') ?? '';
    const asked = challenge.parameters.get('scope') ?? '';
    let oldScopes: readonly string[] = [];
    // A token may end before its time: the next try has a new one.
    if (problem !== 'insufficient_scope') forget(auth, header);
    if (repeated && (problem !== '' || header !== undefined)) {
      oldScopes = auth?.scopes ?? [];
      if (auth) this.#cache.remove(this.#key(host), auth);
      auth = undefined;
      if (problem === 'insufficient_scope' && new Scopes(oldScopes).contains(new Scopes([asked])))
        throw new AuthorizationError(`server message: ${problem}: authorization failed`);
    }
    if (auth) return true;
    const realm = challenge.parameters.get('realm');
    if (realm === undefined) throw new BuildError('no realm specified for token auth challenge');
    if (!URL.canParse(realm)) throw new BuildError('invalid token auth challenge realm');
    const options = { signal: this.#signal };
    const withSession = this.#credentials.sessions().length > 0;
    const authority = withSession ? await this.#credentials.tokenAuthority(host, options) : undefined;
    const secret = withSession && !authority ? await this.#credentials.credentials(host, options) : undefined;
    this.#cache.add(this.#key(host), {
      ...blank(host, 'bearer', authority?.sessionId ?? secret?.sessionId ?? ''),
      realm,
      service: challenge.parameters.get('service') ?? '',
      scopes: new Scopes([asked, ...oldScopes]).list(),
      username: secret?.username ?? '',
      secret: secret?.secret ?? '',
      authority: authority?.key,
    });
    return true;
  }

  async #basic(host: string, { header, repeated }: RefusedRequest): Promise<boolean> {
    if (this.#credentials.sessions().length === 0) return false;
    const known = await this.#find(host);
    // The same name and secret would be refused again, unless another request has brought better ones meanwhile.
    if (known)
      return !repeated && (basicHeader(known) !== header || (await this.#renew(known)) !== undefined);
    const { sessionId, username, secret } = await this.#credentials.credentials(host, {
      signal: this.#signal,
    });
    if (username === '' || secret === '') return false;
    this.#cache.add(this.#key(host), { ...blank(host, 'basic', sessionId), username, secret });
    return true;
  }

  /** The client's credentials of now, when they are others than those that were refused (USERS row 12). */
  async #renew(auth: HostAuth): Promise<HostAuth | undefined> {
    if (auth.authority || this.#credentials.sessions().length === 0) return undefined;
    const { host } = auth;
    const { sessionId, username, secret } = await this.#credentials.credentials(host, {
      signal: this.#signal,
    });
    if (secret === '' || (username === auth.username && secret === auth.secret)) return undefined;
    const { scheme, realm, service, scopes } = auth;
    const renewed = { ...blank(host, scheme, sessionId), realm, service, scopes, username, secret };
    this.#cache.remove(this.#key(host), auth);
    this.#cache.add(this.#key(host), renewed);
    return renewed;
  }

  #key(host: string): string {
    return `${this.#namespace}|${host}`;
  }

  /** What is known for one of our sessions, or for another with the same credentials. */
  async #find(host: string): Promise<HostAuth | undefined> {
    const list = this.#cache.list(this.#key(host));
    const sessions = this.#credentials.sessions();
    const own = list.find((auth) =>
      sessions.length ? sessions.some((id) => auth.sessions.has(id)) : auth.sessions.has(''),
    );
    const found = own ?? (sessions.length ? await this.#link(host, list) : undefined);
    if (found) found.lastUsed = Date.now();
    return found;
  }

  async #link(host: string, list: readonly HostAuth[]): Promise<HostAuth | undefined> {
    for (const auth of list) {
      try {
        const session = await this.#provenSession(host, auth);
        if (session === undefined) continue;
        auth.sessions.add(session);
        return auth;
      } catch (error) {
        if (isCanceled(error)) throw error;
        // A session that cannot answer has no part in this entry.
      }
    }
    return undefined;
  }

  async #provenSession(host: string, auth: HostAuth): Promise<string | undefined> {
    const options = { signal: this.#signal };
    if (auth.authority) return this.#credentials.verifyTokenAuthority(host, auth.authority, options);
    const { sessionId, username, secret } = await this.#credentials.credentials(host, options);
    return username === auth.username && secret === auth.secret ? sessionId : undefined;
  }

  async #answer(auth: HostAuth, wanted: readonly string[]): Promise<string> {
    if (auth.scheme === 'basic') return basicHeader(auth);
    const scopes = new Scopes([...auth.scopes, ...wanted]).list();
    const key = scopes.join(' ');
    const cached = auth.tokens.get(key);
    if (cached && cached.expiresAt > Date.now()) return cached.header;
    let task = auth.fetching.get(key);
    if (!task) {
      task = new SharedTask((signal) => this.#fetchToken(auth, scopes, signal));
      auth.fetching.set(key, task);
    }
    try {
      const token = await task.join(this.#signal);
      auth.tokens.set(key, token);
      return token.header;
    } finally {
      if (task.settled) auth.fetching.delete(key);
    }
  }

  async #fetchToken(auth: HostAuth, scopes: readonly string[], signal: AbortSignal): Promise<CachedToken> {
    if (auth.authority) {
      const { host, realm, service } = auth;
      const request = { clientId: CLIENT_ID, host, realm, service, scopes };
      const token = await fromClient(() => this.#credentials.fetchToken(request, { signal }), signal);
      return cacheable(token.token, token.expiresIn, token.issuedAt * 1000);
    }
    return await fetchToken(this.#http, auth, scopes, signal);
  }
}

function blank(host: string, scheme: 'bearer' | 'basic', session: string): HostAuth {
  return {
    scheme,
    host,
    realm: '',
    service: '',
    scopes: [],
    username: '',
    secret: '',
    authority: undefined,
    sessions: new Set([session]),
    tokens: new Map(),
    fetching: new Map(),
    lastUsed: Date.now(),
  };
}

function basicHeader({ username, secret }: HostAuth): string {
  return `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}`;
}

function forget(auth: HostAuth | undefined, header: string | undefined): void {
  if (!auth || header === undefined) return;
  for (const [key, token] of auth.tokens) if (token.header === header) auth.tokens.delete(key);
}
