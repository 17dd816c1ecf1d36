import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../base/errors.ts';
import { isBrokenExchange, requestFailed, StatusError, statusIn, unexpectedStatus } from './errors.ts';
import { bytesBody, type HttpClient, type HttpRequest } from './http.ts';
import type { HttpResponse } from './response.ts';
import { backoffMs, throttleMs } from './throttle.ts';

export const CLIENT_ID = 'buildkit-client';
const DEFAULT_TOKEN_LIFE_SECONDS = 60;
/** Share of its life for which a token is used. */
const TOKEN_USE = 0.9;
const MAX_TOKEN_ANSWER_BYTES = 1024 * 1024;
/** Requests for one token, while the server is busy, fails or hangs up (USERS row 6). */
const MAX_TRIES = 6;
/** What clients say of a token server that may be better soon; of their errors only the text arrives. */
const PASSING = /: (408|429|5\d\d)\b|\bEOF\b|connection reset|timeout|timed out|closed|hang up|terminated/i;

export interface CachedToken {
  readonly header: string;
  /** Infinity-free: milliseconds of Date.now(). */
  readonly expiresAt: number;
}

export interface TokenServer {
  /** URL. */
  readonly realm: string;
  readonly service: string;
  /** '' with a secret: the secret is a refresh token. */
  readonly username: string;
  /** '': anonymous. */
  readonly secret: string;
}

/** A bearer token for `scopes` from the server that a registry named. */
export async function fetchToken(
  http: HttpClient,
  server: TokenServer,
  scopes: readonly string[],
  signal: AbortSignal,
): Promise<CachedToken> {
  const what = server.secret === '' ? 'anonymous' : 'oauth';
  try {
    return await getOrPost(http, server, scopes, signal);
  } catch (error) {
    throw BuildError.wrap(error, `failed to fetch ${what} token`);
  }
}

/** Runs `fetch`, which asks a client for a token, again while what it says may pass. */
export async function fromClient<T>(fetch: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await fetch();
    } catch (error) {
      signal.throwIfAborted();
      if (tries >= MAX_TRIES || !PASSING.test(BuildError.from(error).message)) throw error;
      await sleep(backoffMs(tries), undefined, { signal });
    }
  }
}

async function getOrPost(
  http: HttpClient,
  server: TokenServer,
  scopes: readonly string[],
  signal: AbortSignal,
): Promise<CachedToken> {
  try {
    return await getToken(http, server, scopes, signal);
  } catch (error) {
    const status = error instanceof StatusError ? error.status : 0;
    const mayPost = status === 404 || status === 401 || (status === 405 && server.username !== '');
    if (server.secret === '' || !mayPost) throw error;
    try {
      return await postToken(http, server, scopes, signal);
    } catch (second) {
      // A server without POST says nothing of the credentials.
      throw [404, 405].includes(statusIn(second)) ? error : second;
    }
  }
}

function getToken(http: HttpClient, server: TokenServer, scopes: readonly string[], signal: AbortSignal) {
  const url = new URL(server.realm);
  if (server.service) url.searchParams.append('service', server.service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const basic = Buffer.from(`${server.username}:${server.secret}`).toString('base64');
  const headers: Record<string, string> = server.secret === '' ? {} : { authorization: `Basic ${basic}` };
  return tokenFrom(http, { method: 'GET', url, headers, signal });
}

function postToken(http: HttpClient, server: TokenServer, scopes: readonly string[], signal: AbortSignal) {
  const form = new URLSearchParams({
    ...(scopes.length ? { scope: scopes.join(' ') } : {}),
    service: server.service,
    client_id: CLIENT_ID,
    ...(server.username === ''
      ? { grant_type: 'refresh_token', refresh_token: server.secret }
      : { grant_type: 'password', username: server.username, password: server.secret }),
  });
  const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
  const data = Buffer.from(form.toString());
  const body = bytesBody(data);
  return tokenFrom(http, { method: 'POST', url: new URL(server.realm), headers, body, signal });
}

async function tokenFrom(http: HttpClient, request: HttpRequest): Promise<CachedToken> {
  const { signal } = request;
  for (let tries = 1; ; tries++) {
    let wait = backoffMs(tries);
    let failure: unknown;
    try {
      const response = await http.send(request);
      wait = throttleMs(response, tries);
      return parseToken(await goodText(response));
    } catch (error) {
      signal.throwIfAborted();
      failure = error instanceof BuildError ? error : requestFailed(error, request.method, request.url);
    }
    const status = statusIn(failure);
    const passes = status === 408 || status === 429 || status >= 500 || isBrokenExchange(failure);
    if (tries >= MAX_TRIES || !passes) throw failure;
    await sleep(wait, undefined, { signal });
  }
}

async function goodText(response: HttpResponse): Promise<string> {
  if (response.status < 200 || response.status >= 400)
    throw await unexpectedStatus(response, { showQuery: true });
  return Buffer.from(await response.bytes(MAX_TOKEN_ANSWER_BYTES)).toString();
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

/** `expiresIn` in seconds, 0 when it is not known; `issuedAtMs` 0 = now. */
export function cacheable(token: string, expiresIn: number, issuedAtMs: number): CachedToken {
  const lifeMs = (expiresIn || DEFAULT_TOKEN_LIFE_SECONDS) * 1000 * TOKEN_USE;
  const expiresAt = (issuedAtMs || Date.now()) + lifeMs;
  // A server whose clock is behind would make every token old at birth: such a token is used for its life from now.
  return { header: `Bearer ${token}`, expiresAt: expiresAt > Date.now() ? expiresAt : Date.now() + lifeMs };
}
