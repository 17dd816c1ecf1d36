import { BuildError } from '../../base/errors.ts';

const CLIENT_ID = 'buildkit-client';
const DEFAULT_EXPIRES_S = 60;
const NO_TOKEN = 'authorization server did not include a token in the response';

export interface TokenRequest {
  readonly realm: string;
  readonly service: string;
  readonly scopes: readonly string[];
  /** '' with a secret means that the secret is an identity (refresh) token. */
  readonly username: string;
  readonly secret: string;
}

export interface RegistryToken {
  readonly token: string;
  /** Seconds. */
  readonly expiresIn: number;
  /** Seconds since the epoch; 0 when the server did not say. */
  readonly issuedAt: number;
}

interface Answer {
  readonly token?: string;
  readonly access_token?: string;
  readonly expires_in?: number;
  readonly issued_at?: string;
}

class UnexpectedStatus extends BuildError {
  readonly status: number;
  constructor(method: string, url: string, status: number, text: string) {
    super(`unexpected status from ${method} request to ${url}: ${status}${text === '' ? '' : ` ${text}`}`);
    this.status = status;
  }
}

/** The token server does not take these credentials (any more). */
export function isRefused(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause)
    if (at instanceof UnexpectedStatus) return [400, 401, 403].includes(at.status);
  return false;
}

/** Gets a bearer token for a registry from its token server (FEATURES C17). */
export async function fetchRegistryToken(request: TokenRequest, signal: AbortSignal): Promise<RegistryToken> {
  if (request.secret === '') {
    try {
      return await byGet(request, signal);
    } catch (error) {
      throw BuildError.wrap(error, 'failed to fetch anonymous token');
    }
  }
  try {
    return await byPost(request, signal);
  } catch (error) {
    const status = error instanceof UnexpectedStatus ? error.status : 0;
    const noPost = status === 404 || status === 401 || (status === 405 && request.username !== '');
    try {
      if (!noPost) throw error;
      return await byGet(request, signal);
    } catch (last) {
      throw BuildError.wrap(last, 'failed to fetch oauth token');
    }
  }
}

async function byPost(request: TokenRequest, signal: AbortSignal): Promise<RegistryToken> {
  const form = new URLSearchParams();
  if (request.scopes.length > 0) form.set('scope', request.scopes.join(' '));
  form.set('service', request.service);
  form.set('client_id', CLIENT_ID);
  if (request.username === '') {
    form.set('grant_type', 'refresh_token');
    form.set('refresh_token', request.secret);
  } else {
    form.set('grant_type', 'password');
    form.set('username', request.username);
    form.set('password', request.secret);
  }
  const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
  const answer = await ask('POST', request.realm, { headers, body: form.toString(), signal });
  return tokenOf(answer.access_token, answer);
}

async function byGet(request: TokenRequest, signal: AbortSignal): Promise<RegistryToken> {
  const url = new URL(request.realm);
  if (request.service !== '') url.searchParams.append('service', request.service);
  for (const scope of request.scopes) url.searchParams.append('scope', scope);
  const headers: Record<string, string> = {};
  if (request.secret !== '')
    headers.authorization = `Basic ${Buffer.from(`${request.username}:${request.secret}`).toString('base64')}`;
  const answer = await ask('GET', url.href, { headers, signal });
  return tokenOf(answer.token || answer.access_token, answer);
}

async function ask(method: 'GET' | 'POST', url: string, init: RequestInit): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(url, { method, ...init });
  } catch (error) {
    const cause = (error as { cause?: unknown }).cause;
    const why = cause instanceof Error ? cause.message : (error as Error).message;
    throw new BuildError(`${method} ${url}: ${why}`, { cause: error });
  }
  const text = await response.text();
  if (response.status < 200 || response.status >= 400)
    throw new UnexpectedStatus(method, url, response.status, response.statusText);
  try {
    return JSON.parse(text) as Answer;
  } catch (error) {
    throw new BuildError(`unable to decode token response: ${(error as Error).message}`, { cause: error });
  }
}

function tokenOf(token: string | undefined, answer: Answer): RegistryToken {
  if (!token) throw new BuildError(NO_TOKEN);
  const issued = Date.parse(answer.issued_at ?? '');
  return {
    token,
    expiresIn: answer.expires_in || DEFAULT_EXPIRES_S,
    issuedAt: Number.isNaN(issued) ? 0 : Math.floor(issued / 1000),
  };
}
