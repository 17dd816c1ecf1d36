import { BuildError, Code, errno } from '../base/errors.ts';
import type { HttpResponse } from './response.ts';

const MAX_ERROR_BODY_BYTES = 64_000;

/** A registry answered with a status that the request cannot go on from. */
export class StatusError extends BuildError {
  readonly status: number;
  readonly body: string;
  constructor(message: string, status: number, body: string) {
    super(message, { code: codeOf(status) });
    this.status = status;
    this.body = body;
  }
}

/** Credentials were given and refused. */
export class AuthorizationError extends BuildError {
  constructor(message: string) {
    super(message, { code: Code.permissionDenied });
  }
}

function codeOf(status: number): Code {
  if (status === 401) return Code.unauthenticated;
  if (status === 403) return Code.permissionDenied;
  if (status === 404) return Code.notFound;
  if (status === 429) return Code.resourceExhausted;
  return status >= 500 ? Code.unavailable : Code.unknown;
}

/** Reads the answer's body and says what the server said. */
export async function unexpectedStatus(
  response: HttpResponse,
  options: { readonly showQuery?: boolean } = {},
): Promise<StatusError> {
  let body = '';
  try {
    body = Buffer.from(await response.bytes(MAX_ERROR_BODY_BYTES)).toString();
  } catch {
    // A body that cannot be read adds nothing; the status alone is the error.
  }
  const status = `${response.status} ${response.statusText}`.trim();
  const url = options.showQuery ? response.url.href : safeUrl(response.url);
  const text = `unexpected status from ${response.method} request to ${url}: ${status}`;
  const details = registryErrors(body);
  return new StatusError(details ? `${text}\n${details}` : text, response.status, body);
}

/** The errors of a registry's JSON answer (distribution-spec, error codes), or ''. */
function registryErrors(body: string): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return ''; // not every server answers in JSON
  }
  const list = (parsed as { errors?: unknown } | null)?.errors;
  if (!Array.isArray(list)) return '';
  return list
    .map((entry: { code?: unknown; message?: unknown } | null) => {
      const code = typeof entry?.code === 'string' ? entry.code : 'UNKNOWN';
      const message = typeof entry?.message === 'string' ? entry.message : '';
      return `${code.replaceAll('_', ' ').toLowerCase()}: ${message}`;
    })
    .join('\n');
}

/** Without the values of its query, which may be secrets (all but `ns`), and without user and password. */
export function safeUrl(url: URL): string {
  const safe = new URL(url);
  for (const [key, value] of [...safe.searchParams])
    if (key !== 'ns' && value !== '') safe.searchParams.set(key, 'REDACTED');
  if (safe.password) safe.password = 'xxxxx';
  return safe.href;
}

/** `failed to do request: Head "https://…": …` for a connection that failed. */
export function requestFailed(error: unknown, method: string, url: URL): BuildError {
  return BuildError.wrap(connectionFailed(error, method, url), 'failed to do request');
}

/** `Head "https://…": …`. */
export function connectionFailed(error: unknown, method: string, url: URL): BuildError {
  const inner = BuildError.from(error);
  const verb = method.slice(0, 1) + method.slice(1).toLowerCase();
  const code = errno(error);
  const address = error as { address?: string; port?: number };
  const where = address?.address === undefined ? url.host : `${address.address}:${address.port}`;
  const text =
    code === 'ECONNREFUSED'
      ? `dial tcp ${where}: connect: connection refused`
      : code === 'ENOTFOUND'
        ? `dial tcp: lookup ${url.hostname}: no such host`
        : inner.message || code || 'connection failed';
  return new BuildError(`${verb} "${safeUrl(url)}": ${text}`, {
    code: inner.code === Code.unknown ? Code.unavailable : inner.code,
    cause: error,
  });
}

const TRANSIENT_CODES = new Set([
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ECONNABORTED',
  'EAI_AGAIN',
  'ERR_STREAM_PREMATURE_CLOSE',
]);

function anyCause(error: unknown, test: (error: unknown) => boolean): boolean {
  for (let at: unknown = error, depth = 0; at !== undefined && at !== null && depth < 8; depth++) {
    if (test(at)) return true;
    at = (at as { cause?: unknown }).cause;
  }
  return false;
}

/** Worth a new try of the whole transfer: server errors and connections that broke (FEATURES F22). */
export function isTransient(error: unknown): boolean {
  return anyCause(
    error,
    (e) => (e instanceof StatusError && e.status >= 500) || TRANSIENT_CODES.has(errno(e) ?? ''),
  );
}

/** Status of the answer that an error comes from; 0 when it comes from none. */
export function statusIn(error: unknown): number {
  let status = 0;
  anyCause(error, (e) => {
    if (e instanceof StatusError) status = e.status;
    return e instanceof StatusError;
  });
  return status;
}

/** The connection ended or stood still before an answer came. */
export function isBrokenExchange(error: unknown): boolean {
  return anyCause(error, (e) => ['ETIMEDOUT', 'ECONNRESET', 'EPIPE'].includes(errno(e) ?? ''));
}

export function isAuthorizationError(error: unknown): boolean {
  return anyCause(error, (e) => e instanceof AuthorizationError);
}
