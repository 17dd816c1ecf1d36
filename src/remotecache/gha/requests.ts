import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../../base/errors.ts';
import { isBrokenExchange, requestFailed, safeUrl, StatusError } from '../../registry/errors.ts';
import type { HttpBody, HttpClient } from '../../registry/http.ts';
import type { HttpResponse } from '../../registry/response.ts';

/** Tries of a request that the service cannot answer for a moment. */
const MAX_TRIES = 6;
const FIRST_WAIT_MS = 1000;
/** However little the service asks for. */
const MIN_WAIT_MS = 200;
/** Pause of all requests when the service has had too many and does not say how long to wait. */
const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 90_000;
/** An answer or an error that is read, bytes. */
const MAX_ANSWER_BYTES = 32 * 1024;
const MAX_ERROR_TEXT = 500;

export interface CallContext {
  readonly signal: AbortSignal;
  /** Told of problems that waiting may cure, one line each. */
  readonly log?: (line: string) => void;
}

export interface ServiceRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: HttpBody;
  /** Sent to the URL's own host only. */
  readonly token?: string;
}

export interface Clock {
  /** Milliseconds. */
  now(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const realClock: Clock = {
  now: Date.now,
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, { signal });
  },
};

export interface RequestParts {
  readonly http: Pick<HttpClient, 'send'>;
  readonly clock?: Clock;
}

/**
 * Requests to the cache service and to where its blobs lie, each tried for as long as it may take. All of one cache
 * pause together when the service has had too many of them.
 */
export class Requests {
  readonly #http: Pick<HttpClient, 'send'>;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #quietUntil = 0;
  #pauseMs = 0;

  constructor({ http, clock = realClock }: RequestParts, timeoutMs: number) {
    this.#http = http;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** What `read` makes of an answer that says that it went well. @throws StatusError for other answers */
  async send<T>(
    request: ServiceRequest,
    read: (response: HttpResponse) => Promise<T>,
    context: CallContext,
  ): Promise<T> {
    const { signal, log } = context;
    const clock = this.#clock;
    const end = clock.now() + this.#timeoutMs;
    for (let failures = 0; ; ) {
      await this.#quiet(end, signal);
      const tried = await this.#try(request, read, signal);
      if ('value' in tried) return tried.value;
      const { problem, kind } = tried;
      if (kind === 'final' || (kind === 'failed' && ++failures >= MAX_TRIES)) throw problem;
      const ownMs = kind === 'failed' ? FIRST_WAIT_MS * 2 ** (failures - 1) : 0;
      const waitMs = kind === 'paused' ? this.#pause() : Math.max(ownMs, tried.askedMs ?? 0, MIN_WAIT_MS);
      if (clock.now() + waitMs > end) throw tooLate(problem, this.#timeoutMs);
      log?.(`${problem.message}: waiting ${waitMs / 1000}s\n`);
      if (kind !== 'paused') await clock.sleep(waitMs, signal);
    }
  }

  /** An answer in JSON; undefined when it has no body. */
  async json(
    request: ServiceRequest,
    context: CallContext,
    maxBytes = MAX_ANSWER_BYTES,
  ): Promise<Record<string, unknown> | undefined> {
    const data = await this.send(request, (response) => response.bytes(maxBytes), context);
    if (data.length === 0) return undefined;
    let value: unknown;
    try {
      value = JSON.parse(Buffer.from(data).toString());
    } catch {
      value = undefined; // said below; the text may hold a signed URL
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new BuildError(
        `invalid answer to ${request.method} ${safeUrl(request.url)}: it is no JSON object`,
      );
    return value as Record<string, unknown>;
  }

  /** An answer of which only the status counts. */
  async done(request: ServiceRequest, context: CallContext): Promise<void> {
    await this.send(request, (response) => response.discard(), context);
  }

  async #try<T>(
    request: ServiceRequest,
    read: (response: HttpResponse) => Promise<T>,
    signal: AbortSignal,
  ): Promise<{ value: T } | Failure> {
    try {
      const { method, url, headers = {}, body, token } = request;
      const response = await this.#http.send({
        method,
        url,
        headers,
        signal,
        ...(body ? { body } : {}),
        ...(token === undefined
          ? {}
          : { authorize: async ({ origin }) => (origin === url.origin ? `Bearer ${token}` : undefined) }),
      });
      if (response.status >= 200 && response.status < 300) {
        const value = await read(response);
        this.#pauseMs = 0;
        return { value };
      }
      const askedMs = retryAfterMs(response.header('retry-after'), this.#clock.now());
      const problem = await serviceError(request, response);
      return { problem, askedMs, kind: kindOf(response.status, askedMs) };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof BuildError) throw error;
      const problem = requestFailed(error, request.method, request.url);
      return { problem, askedMs: undefined, kind: isBrokenExchange(error) ? 'failed' : 'final' };
    }
  }

  /** Starts a pause for everybody, longer each time; gives the rest of one that goes on. */
  #pause(): number {
    const now = this.#clock.now();
    if (now >= this.#quietUntil) {
      this.#pauseMs = Math.min(this.#pauseMs * 2 || FIRST_PAUSE_MS, MAX_PAUSE_MS);
      this.#quietUntil = now + this.#pauseMs;
    }
    return this.#quietUntil - now;
  }

  async #quiet(end: number, signal: AbortSignal): Promise<void> {
    for (let now = this.#clock.now(); now < this.#quietUntil; now = this.#clock.now()) {
      if (this.#quietUntil > end) throw tooLate(new BuildError('too many requests'), this.#timeoutMs);
      await this.#clock.sleep(this.#quietUntil - now, signal);
    }
  }
}

interface Failure {
  readonly problem: BuildError;
  /** Wait that the service asks for, milliseconds. */
  readonly askedMs: number | undefined;
  /** `failed`: may pass, `throttled` and `paused`: too many requests, `final`: not worth another try. */
  readonly kind: 'failed' | 'throttled' | 'paused' | 'final';
}

function kindOf(status: number, askedMs: number | undefined): Failure['kind'] {
  if (status === 429) return askedMs === undefined ? 'paused' : 'throttled';
  return [408, 500, 502, 503, 504].includes(status) ? 'failed' : 'final';
}

function tooLate(problem: BuildError, timeoutMs: number): BuildError {
  return BuildError.wrap(problem, `maximum timeout of ${timeoutMs / 1000}s reached`);
}

/** Seconds or a date (RFC 9110, section 10.2.3), as milliseconds from now. */
export function retryAfterMs(header: string | undefined, now: number): number | undefined {
  const text = header?.trim() ?? '';
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const date = text === '' ? Number.NaN : Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(date - now, 0);
}

/** Says what the service said, in either version's words. The token is masked should it repeat it. */
async function serviceError(request: ServiceRequest, response: HttpResponse): Promise<StatusError> {
  let body = '';
  try {
    body = Buffer.from(await response.bytes(MAX_ANSWER_BYTES)).toString();
  } catch {
    // A body that cannot be read adds nothing; the status alone is the error.
  }
  const { message, typeKey, code } = errorFields(body);
  const said = [message || typeKey || code].filter((text) => text !== '').map((text) => `: ${text}`);
  const status = `${response.status} ${response.statusText}`.trim();
  const text = `unexpected status from ${request.method} request to ${safeUrl(request.url)}: ${status}${said}`;
  const shown = request.token ? text.replaceAll(request.token, 'xxxxx') : text;
  return new StatusError(shown, response.status, body);
}

interface ErrorFields {
  readonly message: string;
  readonly typeKey: string;
  readonly code: string;
}

function errorFields(body: string): ErrorFields {
  let value: unknown;
  try {
    value = JSON.parse(body.replace(/^\uFEFF/, ''));
  } catch {
    // Azure and proxies answer in XML or HTML: the status says enough.
  }
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const text = (field: unknown): string => (typeof field === 'string' ? field.slice(0, MAX_ERROR_TEXT) : '');
  return {
    message: text(fields.message) || text(fields.msg),
    typeKey: text(fields.typeKey),
    code: text(fields.code),
  };
}

/** The key is taken, in an answer that is none of an error. */
export class TakenError extends BuildError {}

/** The key is taken: by an entry, or by somebody who is sending one. */
export function isTaken(error: unknown): boolean {
  if (error instanceof TakenError) return true;
  if (!(error instanceof StatusError)) return false;
  const { message, typeKey, code } = errorFields(error.body);
  return (
    error.status === 409 ||
    typeKey.includes('AlreadyExists') ||
    code === 'already_exists' ||
    message.toLowerCase().includes('already exists')
  );
}
