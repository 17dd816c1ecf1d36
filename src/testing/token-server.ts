import { randomBytes } from 'node:crypto';
import type { Fault, SeenRequest } from './registry.ts';

/** A registry's token server whose tokens end, for `startFaulty`: at the path /token of the registry's own address. */
export class TokenServer {
  /** Milliseconds for which a token is good. */
  lifeMs: number;
  /** The only user's name and password; undefined: everybody. */
  login: string | undefined;
  /** Tokens given so far. */
  issued = 0;
  /** Requests with a token that was not good. */
  refused = 0;
  readonly #good = new Map<string, { readonly until: number; readonly scopes: string }>();

  constructor(options: { readonly lifeMs: number; readonly login?: string }) {
    this.lifeMs = options.lifeMs;
    this.login = options.login;
  }

  /** Ends all tokens. */
  revoke(): void {
    this.#good.clear();
  }

  /** The answer to a request for a token, or to one without a good token. */
  fault(request: SeenRequest): Fault | undefined {
    const url = new URL(request.url, `http://${request.headers.host}`);
    if (url.pathname === '/token') return this.#give(url, request);
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1];
    const known = token === undefined ? undefined : this.#good.get(token);
    const name = /^\/v2\/(.*)\/(manifests|blobs|referrers)\//.exec(url.pathname)?.[1];
    const push = ['POST', 'PUT', 'PATCH'].includes(request.method);
    const right = known?.scopes.split(' ').some((scope) => {
      const [, repository, actions = ''] = scope.split(':');
      return repository === name && actions.split(',').includes(push ? 'push' : 'pull');
    });
    if (known && known.until > Date.now() && right) return undefined;
    if (token !== undefined) this.refused++;
    return this.challenge(request, known === undefined && token === undefined ? '' : 'invalid_token');
  }

  /** 401 with where to get a token. `error`: what is wrong with that of the request. */
  challenge(request: SeenRequest, error: string): Fault {
    const name = /^\/v2\/(.*)\/(manifests|blobs|referrers)\//.exec(request.url)?.[1];
    const actions = ['POST', 'PUT', 'PATCH'].includes(request.method) ? 'pull,push' : 'pull';
    const parts = [
      `Bearer realm="http://${request.headers.host}/token"`,
      'service="registry"',
      `scope="repository:${name}:${actions}"`,
      ...(error === '' ? [] : [`error="${error}"`]),
    ];
    return { status: 401, headers: { 'www-authenticate': parts.join(',') } };
  }

  #give(url: URL, request: SeenRequest): Fault {
    if (request.method === 'POST') return { status: 404 }; // GET serves all
    const basic = (request.headers.authorization ?? '').slice('Basic '.length);
    const login = Buffer.from(basic, 'base64').toString();
    if (this.login !== undefined && login !== this.login) return { status: 401 };
    const token = randomBytes(16).toString('hex');
    this.#good.set(token, {
      until: Date.now() + this.lifeMs,
      scopes: url.searchParams.getAll('scope').join(' '),
    });
    this.issued++;
    const body = JSON.stringify({ token, expires_in: this.lifeMs / 1000 });
    return { status: 200, headers: { 'content-type': 'application/json' }, body };
  }
}
