import { BuildError, isCanceled } from '../base/errors.ts';
import { SharedTask } from '../base/shared-task.ts';
import { type Challenge, parseChallenges, Scopes } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { AuthorizationError, requestFailed, StatusError, unexpectedStatus } from './errors.ts';
import type { HttpClient, HttpResponse } from './http.ts';

const CLIENT_ID = 'buildkit-client';
const DEFAULT_TOKEN_LIFE_SECONDS = 60;
/** Share of its life for which a token is used. */
const TOKEN_USE = 0.9;
/** Answers that have not been used for this long are forgotten. */
const UNUSED_MS = 10 * 60 * 1000;
const MAX_TOKEN_ANSWER_BYTES = 1024 * 1024;

interface CachedToken {
  readonly header: string;
  /** Infinity-free: milliseconds of Date.now(). */
  readonly expiresAt: number;
}

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
      throw BuildError.wrap(error, 'failed to authorize');
    }
  }

  /** Takes note of a 401. True: try again. `repeated`: the same request got the same answer before. */
  async challenged(response: HttpResponse, repeated: boolean): Promise<boolean> {
    const host = response.url.host;
    for (const challenge of parseChallenges(response.headers('www-authenticate'))) {
      if (challenge.scheme === 'bearer') return this.#bearer(host, challenge, repeated);
      if (await this.#basic(host)) return true;
    }
    return false;
  }

  async #bearer(host: string, challenge: Challenge, repeated: boolean): Promise<boolean> {
    let auth = await this.#find(host);
    const problem = challenge.parameters.get('error') ?? '';
    const asked = challenge.parameters.get('scope') ?? '';
    let oldScopes: readonly string[] = [];
    if (problem !== '' && repeated) {
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

  async #basic(host: string): Promise<boolean> {
    const known = await this.#find(host);
    // The same name and secret would be refused again.
    if (known || this.#credentials.sessions().length === 0) return false;
    const { sessionId, username, secret } = await this.#credentials.credentials(host, {
      signal: this.#signal,
    });
    if (username === '' || secret === '') return false;
    this.#cache.add(this.#key(host), { ...blank(host, 'basic', sessionId), username, secret });
    return true;
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
    if (auth.scheme === 'basic')
      return `Basic ${Buffer.from(`${auth.username}:${auth.secret}`).toString('base64')}`;
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
      const token = await this.#credentials.fetchToken(request, { signal });
      return cacheable(token.token, token.expiresIn, token.issuedAt * 1000);
    }
    if (auth.secret === '') {
      try {
        return await this.#getToken(auth, scopes, signal);
      } catch (error) {
        throw BuildError.wrap(error, 'failed to fetch anonymous token');
      }
    }
    try {
      return await this.#tokenWithSecret(auth, scopes, signal);
    } catch (error) {
      throw BuildError.wrap(error, 'failed to fetch oauth token');
    }
  }

  async #tokenWithSecret(auth: HostAuth, scopes: readonly string[], signal: AbortSignal) {
    try {
      return await this.#getToken(auth, scopes, signal);
    } catch (error) {
      const status = error instanceof StatusError ? error.status : 0;
      if (status !== 404 && status !== 401 && !(status === 405 && auth.username !== '')) throw error;
      return await this.#postToken(auth, scopes, signal);
    }
  }

  #getToken(auth: HostAuth, scopes: readonly string[], signal: AbortSignal): Promise<CachedToken> {
    const url = new URL(auth.realm);
    if (auth.service) url.searchParams.append('service', auth.service);
    for (const scope of scopes) url.searchParams.append('scope', scope);
    const basic = Buffer.from(`${auth.username}:${auth.secret}`).toString('base64');
    const headers: Record<string, string> = auth.secret === '' ? {} : { authorization: `Basic ${basic}` };
    return this.#tokenRequest('GET', url, headers, undefined, signal);
  }

  #postToken(auth: HostAuth, scopes: readonly string[], signal: AbortSignal): Promise<CachedToken> {
    const form = new URLSearchParams({
      ...(scopes.length ? { scope: scopes.join(' ') } : {}),
      service: auth.service,
      client_id: CLIENT_ID,
      ...(auth.username === ''
        ? { grant_type: 'refresh_token', refresh_token: auth.secret }
        : { grant_type: 'password', username: auth.username, password: auth.secret }),
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
    return this.#tokenRequest('POST', new URL(auth.realm), headers, Buffer.from(form.toString()), signal);
  }

  async #tokenRequest(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    form: Uint8Array | undefined,
    signal: AbortSignal,
  ): Promise<CachedToken> {
    const body = form && { size: form.length, open: () => once(form) };
    let response: HttpResponse;
    try {
      response = await this.#http.send({ method, url, headers, signal, ...(body ? { body } : {}) });
    } catch (error) {
      signal.throwIfAborted();
      throw requestFailed(error, method, url);
    }
    if (response.status < 200 || response.status >= 400)
      throw await unexpectedStatus(response, { showQuery: true });
    const text = Buffer.from(await response.bytes(MAX_TOKEN_ANSWER_BYTES)).toString();
    return parseToken(text);
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

function parseToken(text: string): CachedToken {
  let answer: Record<string, unknown>;
  try {
    answer = Object(JSON.parse(text));
  } catch (cause) {
    throw new BuildError('unable to decode token response', { cause });
  }
  const token = [answer.token, answer.access_token].find((t) => typeof t === 'string' && t !== '');
  if (typeof token !== 'string')
    throw new BuildError('authorization server did not include a token in the response');
  const issuedAt = typeof answer.issued_at === 'string' ? Date.parse(answer.issued_at) : 0;
  const expiresIn = typeof answer.expires_in === 'number' ? answer.expires_in : 0;
  return cacheable(token, expiresIn, Number.isNaN(issuedAt) ? 0 : issuedAt);
}

function cacheable(token: string, expiresIn: number, issuedAtMs: number): CachedToken {
  const lifeMs = (expiresIn || DEFAULT_TOKEN_LIFE_SECONDS) * 1000 * TOKEN_USE;
  const expiresAt = (issuedAtMs || Date.now()) + lifeMs;
  // A server whose clock is behind would make every token old at birth: such a token is used for its life from now.
  return { header: `Bearer ${token}`, expiresAt: expiresAt > Date.now() ? expiresAt : Date.now() + lifeMs };
}

async function* once(data: Uint8Array): AsyncGenerator<Uint8Array> {
  yield data;
}
