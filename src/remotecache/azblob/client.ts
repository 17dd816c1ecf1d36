import { BuildError } from '../../base/errors.ts';
import { connectionFailed } from '../../registry/errors.ts';
import { bytesBody, type HttpClient } from '../../registry/http.ts';
import type { HttpResponse } from '../../registry/response.ts';
import { refusal, wholeBody } from '../cloud/answer.ts';
import { storeError, xmlText } from '../cloud/errors.ts';
import { Retrier } from '../cloud/retry.ts';
import type { AzblobConfig } from './attrs.ts';
import { API_VERSION, sharedKeyAuthorization } from './shared-key.ts';
import { isSafe, type TokenSource } from './token.ts';

const MAX_ERROR_BYTES = 64_000;
const ATTEMPTS = 4;

const HINTS: Readonly<Record<string, string>> = {
  AuthenticationFailed: 'Check `account_name` and `secret_access_key`, and the clock.',
  AuthorizationPermissionMismatch:
    'The identity of the daemon needs the role "Storage Blob Data Contributor" on the container.',
};

export interface AzblobRequest {
  /** Name of the operation, for errors. */
  readonly operation: string;
  readonly method: string;
  /** Of the blob; undefined for the container itself. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** Requests to one container: signed, tried again, with errors in words. */
export class AzblobClient {
  readonly #config: AzblobConfig;
  readonly #http: Pick<HttpClient, 'send'>;
  readonly #tokens: TokenSource | undefined;
  readonly #retrier = new Retrier({ attempts: ATTEMPTS });

  /** @param tokens asked when the account's key is not given */
  constructor(config: AzblobConfig, http: Pick<HttpClient, 'send'>, tokens: TokenSource) {
    this.#config = config;
    this.#http = http;
    this.#tokens = config.accountKey === '' ? tokens : undefined;
  }

  /** A good answer; its body is to be read or discarded. */
  send(request: AzblobRequest, signal: AbortSignal): Promise<HttpResponse> {
    return this.#tries(request, signal, async (response) => response);
  }

  /** A good answer's body, at most `maxBytes` of it. */
  bytes(request: AzblobRequest, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    return this.#tries(request, signal, (response) => wholeBody(response, maxBytes));
  }

  /** For errors. */
  nameOf(key: string | undefined): string {
    return key === undefined ? `container ${this.#config.container}` : `${this.#config.container}/${key}`;
  }

  #tries<T>(
    request: AzblobRequest,
    signal: AbortSignal,
    read: (response: HttpResponse) => Promise<T>,
  ): Promise<T> {
    return this.#retrier.run(
      signal,
      async () => read(await this.#once(request, signal)),
      // A token that has ended meanwhile; a key stays wrong.
      (error) => storeError(error)?.status === 401 && this.#tokens?.expire() === true,
    );
  }

  async #once(request: AzblobRequest, signal: AbortSignal): Promise<HttpResponse> {
    const { method, body = new Uint8Array() } = request;
    const url = this.#address(request);
    const headers: Record<string, string> = {
      ...request.headers,
      'x-ms-date': new Date().toUTCString(),
      'x-ms-version': API_VERSION,
      ...(method === 'PUT' ? { 'content-length': String(body.length) } : {}),
      ...(body.length > 0 ? { 'content-type': 'application/octet-stream' } : {}),
    };
    const authorization = await this.#authorization(method, url, headers, signal);
    let response: HttpResponse;
    try {
      response = await this.#http.send({
        method,
        url,
        headers: { ...headers, authorization, 'accept-encoding': 'identity' },
        keepRedirects: true,
        signal,
        ...(body.length > 0 ? { body: bytesBody(body) } : {}),
      });
    } catch (error) {
      signal.throwIfAborted();
      throw BuildError.wrap(connectionFailed(error, method, url), request.operation);
    }
    if (response.status < 300) return response;
    throw await this.#refused(request, response);
  }

  #address({ key, query = {} }: AzblobRequest): URL {
    const { accountUrl, container } = this.#config;
    const url = new URL(accountUrl);
    const parts = [container, ...(key === undefined ? [] : key.split('/'))].map(encodeURIComponent);
    const path = `${accountUrl.pathname.replace(/\/$/, '')}/${parts.join('/')}`;
    url.pathname = path;
    // Parts like `..` would be gone: the blob would be another.
    if (url.pathname !== path) throw new BuildError(`${JSON.stringify(key)} cannot be the name of a blob`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return url;
  }

  async #authorization(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<string> {
    const { accountName, accountKey } = this.#config;
    if (!this.#tokens) return sharedKeyAuthorization({ method, url, headers }, accountName, accountKey);
    if (!isSafe(url)) throw new BuildError('tokens are not sent to an account_url without https');
    return `Bearer ${(await this.#tokens.get(signal)).text}`;
  }

  async #refused({ operation, key }: AzblobRequest, response: HttpResponse): Promise<BuildError> {
    const xml = Buffer.from(await response.bytes(MAX_ERROR_BYTES)).toString();
    const reason = response.header('x-ms-error-code') || xmlText(xml, 'Code');
    const said = xmlText(xml, 'Message').split('\n', 1)[0]!.trim();
    const text = [
      `${operation} of ${this.nameOf(key)} in ${this.#config.accountUrl.host}: ${response.status}${reason === '' ? '' : ` ${reason}`}`,
      ...(said === '' ? [] : [said]),
    ].join(': ');
    return refusal(text, response, reason, HINTS);
  }
}
