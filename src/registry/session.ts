import { setTimeout as sleep } from 'node:timers/promises';
import { type ImageReference, referenceHost, referencePath } from '../oci/reference.ts';
import { type AuthCache, Authorizer } from './auth.ts';
import type { RegistryHost } from './config.ts';
import type { Credentials } from './credentials.ts';
import { isBrokenExchange, requestFailed, unexpectedStatus } from './errors.ts';
import type { HttpBody, HttpClient } from './http.ts';
import type { HttpResponse } from './response.ts';
import { throttleMs } from './throttle.ts';

const MAX_TRIES = 5;
const BROKEN_RETRY_MS = 50;
/** Shorter waits are not worth a line in the log. */
const TOLD_WAIT_MS = 1000;

export interface RegistryContext {
  readonly credentials: Credentials;
  readonly signal: AbortSignal;
  /** Told of problems that a retry may cure, one line each: `error: …`, `retrying in 1s`. */
  readonly log?: (line: string) => void;
}

export interface RepositoryRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';
  /** Behind the repository: `manifests/latest`. */
  readonly path: string;
  /** Instead of the repository's path: where an upload goes. */
  readonly url?: URL;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: HttpBody;
  /** Scopes beside the repository's own. */
  readonly scopes?: readonly string[];
  /** No credentials: the target is another server than the registry. */
  readonly noAuthorization?: boolean;
  readonly large?: boolean;
  /** No other host will be tried after this one. */
  readonly lastHost: boolean;
}

/** Requests to the hosts of one repository with the rules for authorization and retries (FEATURES F22). */
export class RepositorySession {
  readonly reference: ImageReference;
  readonly context: RegistryContext;
  readonly #http: HttpClient;
  readonly #authorizer: Authorizer;
  readonly #scope: string;

  constructor(
    reference: ImageReference,
    push: boolean,
    context: RegistryContext,
    http: HttpClient,
    auth: AuthCache,
  ) {
    this.reference = reference;
    this.context = context;
    this.#http = http;
    this.#scope = `repository:${referencePath(reference)}:pull${push ? ',push' : ''}`;
    const sessions = push ? `::push::${context.credentials.sessions().join(',')}` : '::pull';
    const namespace = reference.name + sessions;
    this.#authorizer = new Authorizer(auth, namespace, context.credentials, http, context.signal);
  }

  /** The answer of whatever status the retry rules do not settle; its body is the caller's. */
  async request(host: RegistryHost, request: RepositoryRequest): Promise<HttpResponse> {
    let { method } = request;
    let previous: HttpResponse | undefined;
    let throttled = 0;
    for (let tries = 1; ; tries++) {
      const sent = await this.#send(host, { ...request, method }, tries);
      if (sent === undefined) continue;
      const { response } = sent;
      const repeated = previous !== undefined && previous.method === response.method;
      const refused = { repeated: repeated && previous?.status === 401, header: sent.authorization };
      const wait = await this.#retryWait(request, response, refused, previous, throttled);
      if (wait === undefined || tries >= MAX_TRIES) return response;
      await response.discard();
      if (response.status === 405) method = 'GET';
      if (wait > 0) {
        throttled++;
        if (wait >= TOLD_WAIT_MS)
          this.context.log?.(
            `${response.status} ${response.statusText} from ${host.host}: waiting ${wait / 1000}s\n`,
          );
        await sleep(wait, undefined, { signal: this.context.signal });
      }
      previous = response;
    }
  }

  /** Milliseconds after which to try again; undefined: the answer stands. */
  async #retryWait(
    request: RepositoryRequest,
    response: HttpResponse,
    refused: { readonly repeated: boolean; readonly header: string | undefined },
    previous: HttpResponse | undefined,
    throttled: number,
  ): Promise<number | undefined> {
    switch (response.status) {
      case 401: {
        if (request.noAuthorization) return undefined;
        return (await this.#authorizer.challenged(response, refused)) ? 0 : undefined;
      }
      case 405:
        return response.method === 'HEAD' && request.path.startsWith('manifests/') ? 0 : undefined;
      case 408:
      case 429:
        return throttleMs(response, throttled);
      case 500:
      case 503:
      case 504:
        return request.lastHost && previous?.status !== response.status ? 0 : undefined;
      default:
        return undefined;
    }
  }

  /** undefined: the exchange broke and may be tried again. */
  async #send(
    host: RegistryHost,
    request: RepositoryRequest,
    tries: number,
  ): Promise<{ response: HttpResponse; authorization: string | undefined } | undefined> {
    const url = request.url ?? this.#url(host, request);
    const { signal } = this.context;
    let authorized = false;
    let authorization: string | undefined;
    try {
      const response = await this.#http.send({
        method: request.method,
        url,
        tls: host.tls,
        signal,
        ...(request.headers ? { headers: request.headers } : {}),
        ...(request.large ? { large: true } : {}),
        ...(request.body ? { body: request.body } : {}),
        ...(request.noAuthorization
          ? {}
          : {
              authorize: async (target) => {
                authorized = false;
                const scopes = [this.#scope, ...(request.scopes ?? [])];
                authorization = await this.#authorizer.header(target, scopes);
                authorized = true;
                return authorization;
              },
            }),
      });
      return { response, authorization };
    } catch (error) {
      signal.throwIfAborted();
      if (!authorized && !request.noAuthorization) throw error;
      if (!request.lastHost || tries >= MAX_TRIES || request.body || !isBrokenExchange(error))
        throw requestFailed(error, request.method, url);
      await sleep(BROKEN_RETRY_MS, undefined, { signal });
      return undefined;
    }
  }

  #url(host: RegistryHost, request: RepositoryRequest): URL {
    const path = `${host.path}/${referencePath(this.reference)}/${request.path}`;
    const url = new URL(`${host.scheme}://${host.host}${path}`);
    for (const [key, value] of Object.entries(request.query ?? {})) url.searchParams.append(key, value);
    if (host.isMirror) url.searchParams.append('ns', referenceHost(this.reference));
    return url;
  }
}

/** An answer of 403 to HEAD says nothing of why; GET does. */
export async function deniedOrUnexpected(
  session: RepositorySession,
  host: RegistryHost,
  request: RepositoryRequest,
  response: HttpResponse,
): Promise<Error> {
  if (response.status === 403 && response.method === 'HEAD') {
    const full = await session.request(host, { ...request, method: 'GET' });
    if (full.status === 403) return unexpectedStatus(full);
    await full.discard();
  }
  return unexpectedStatus(response);
}
