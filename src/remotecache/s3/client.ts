import { BuildError } from '../../base/errors.ts';
import { connectionFailed } from '../../registry/errors.ts';
import { bytesBody, type HttpClient } from '../../registry/http.ts';
import type { HttpResponse } from '../../registry/response.ts';
import { refusal, wholeBody } from '../cloud/answer.ts';
import { isReason, xmlText } from '../cloud/errors.ts';
import { Retrier } from '../cloud/retry.ts';
import { objectAddress } from './address.ts';
import type { S3Config } from './attrs.ts';
import type { CredentialSource } from './credentials.ts';
import { sha256Hex, signV4 } from './sigv4.ts';

/** Of an answer that is XML. */
const MAX_XML_BYTES = 1 << 20;
/** A clock this far off makes signatures void. */
const MAX_SKEW_MS = 24 * 3_600_000;

const HINTS: Readonly<Record<string, string>> = {
  NoSuchBucket:
    'Caches are put into buckets that exist: create it, or check `bucket`, `region` and `endpoint_url`.',
  AccessDenied:
    'Exports need s3:GetObject, s3:PutObject and s3:ListBucket, imports s3:GetObject; without s3:ListBucket what is not there counts as denied.',
  SignatureDoesNotMatch: 'Check `secret_access_key`, and `use_path_style` for servers behind `endpoint_url`.',
};

/** What is asked of an object. */
export interface S3Request {
  /** Name of the operation, for errors. */
  readonly operation: string;
  readonly method: string;
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

export interface S3Services {
  readonly http: Pick<HttpClient, 'send'>;
  readonly credentials: CredentialSource;
}

/** Requests to one bucket: signed, tried again, with errors in words. */
export class S3Client {
  readonly bucket: string;
  readonly #config: S3Config;
  readonly #services: S3Services;
  readonly #address: ReturnType<typeof objectAddress>;
  readonly #retrier: Retrier;
  /** How far the server's clock is ahead. */
  #skewMs = 0;

  constructor(config: S3Config, services: S3Services) {
    this.bucket = config.bucket;
    this.#config = config;
    this.#services = services;
    this.#address = objectAddress(config);
    this.#retrier = new Retrier({ attempts: config.maxAttempts, adaptive: config.adaptive });
  }

  /** A good answer; its body is to be read or discarded. */
  send(request: S3Request, signal: AbortSignal): Promise<HttpResponse> {
    return this.#tries(request, signal, async (response) => response);
  }

  /** A good answer's body, at most `maxBytes` of it. */
  bytes(request: S3Request, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    return this.#tries(request, signal, (response) => wholeBody(response, maxBytes));
  }

  /** A good answer's XML. An error may come with a good status here. */
  xml(request: S3Request, signal: AbortSignal): Promise<string> {
    return this.#tries(request, signal, async (response) => {
      const text = Buffer.from(await response.bytes(MAX_XML_BYTES)).toString();
      if (text.includes('<Error>')) throw this.#refused(request, response, text);
      return text;
    });
  }

  /** What breaks while the answer is read is tried again as well. */
  #tries<T>(
    request: S3Request,
    signal: AbortSignal,
    read: (response: HttpResponse) => Promise<T>,
  ): Promise<T> {
    return this.#retrier.run(
      signal,
      async () => read(await this.#once(request, signal)),
      (error) => this.#isStale(error),
    );
  }

  async #once(request: S3Request, signal: AbortSignal): Promise<HttpResponse> {
    const { method, key, query, body = new Uint8Array() } = request;
    const url = this.#address(key, query);
    const credentials = await this.#services.credentials.get(signal);
    const payloadHash = sha256Hex(body);
    const at = new Date(Date.now() + this.#skewMs);
    const signed = signV4(
      { method, url, headers: { ...request.headers, 'x-amz-content-sha256': payloadHash }, payloadHash },
      credentials,
      { region: this.#config.region, service: 's3', at },
    );
    const headers = {
      ...signed,
      // Not signed: servers in between change it.
      ...(this.#config.disableAcceptEncoding ? {} : { 'accept-encoding': 'identity' }),
    };
    let response: HttpResponse;
    try {
      response = await this.#services.http.send({
        method,
        url,
        headers,
        keepRedirects: true,
        signal,
        ...(body.length > 0 ? { body: bytesBody(body) } : {}),
      });
    } catch (error) {
      signal.throwIfAborted();
      throw BuildError.wrap(connectionFailed(error, method, url), request.operation);
    }
    if (response.status < 300) return response;
    this.#learnClock(response);
    throw this.#refused(request, response, Buffer.from(await response.bytes(MAX_XML_BYTES)).toString());
  }

  /** What another signature may help against: keys that have ended, a clock that is off. */
  #isStale(error: unknown): boolean {
    if (isReason(error, 'RequestTimeTooSkewed')) return this.#skewMs !== 0;
    if (!isReason(error, 'ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired')) return false;
    return this.#services.credentials.expire();
  }

  #learnClock(response: HttpResponse): void {
    const skew = Date.parse(response.header('date') ?? '') - Date.now();
    if (response.status === 403 && Math.abs(skew) > 60_000 && Math.abs(skew) < MAX_SKEW_MS)
      this.#skewMs = skew;
  }

  #refused({ operation, key }: S3Request, response: HttpResponse, xml: string): BuildError {
    const reason = xmlText(xml, 'Code') || REASONS[response.status] || '';
    const said = xmlText(xml, 'Message');
    const region = response.header('x-amz-bucket-region') || xmlText(xml, 'Region');
    const elsewhere = region !== '' && region !== this.#config.region;
    const text = [
      `${operation} of s3://${this.bucket}/${key}: ${response.status}${reason === '' ? '' : ` ${reason}`}`,
      ...(said === '' || said === reason ? [] : [said]),
      ...(elsewhere
        ? [`the bucket is in region ${JSON.stringify(region)}, not ${JSON.stringify(this.#config.region)}`]
        : []),
    ].join(': ');
    return refusal(text, response, reason, HINTS);
  }
}

/** Of answers without body, to HEAD. */
const REASONS: Readonly<Record<number, string>> = { 403: 'AccessDenied' };
