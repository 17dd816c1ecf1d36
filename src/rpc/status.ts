import { BuildError, Code, type ErrorDetail } from '../base/errors.ts';
import { Status } from '../pb/rpcstatus.ts';

/**
 * BuildError ↔ gRPC status. A typed detail is an Any whose URL is `github.com/moby/buildkit/<type>+json`
 * and whose value is the JSON of the message; every other Any is kept as it came (FEATURES B3).
 *
 * Order: an error holds its details innermost first; the wire has raw ones, then stacks, then the
 * typed ones from the outermost in, and a receiver takes the wire's order as innermost first.
 */
const URL_PREFIX = 'github.com/moby/buildkit/';
const URL_SUFFIX = '+json';
const STACK = 'stack.Stack';

const NAMES: readonly string[] = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
];

/** `NotFound`, …; `Code(n)` for a number that has no name. */
export function codeName(code: number): string {
  return NAMES[code] ?? `Code(${code})`;
}

/** How clients print an error that came over the wire: bare when unknown, else `<Code>: <message>`. */
export function statusText(error: BuildError): string {
  return error.code === Code.unknown || error.code === Code.ok
    ? error.message
    : `${codeName(error.code)}: ${error.message}`;
}

export function statusOf(error: unknown): Status {
  const own = BuildError.from(error);
  const raw = own.details.filter((d) => 'typeUrl' in d);
  const typed = own.details.filter((d) => !('typeUrl' in d));
  const isStack = (d: ErrorDetail): boolean => 'type' in d && d.type === STACK;
  const ordered = [...raw, ...typed.filter(isStack), ...typed.filter((d) => !isStack(d)).reverse()];
  return {
    code: own.code === Code.ok ? Code.unknown : own.code,
    message: own.message,
    details: ordered.map(encodeDetail),
  };
}

export function errorOf(status: Status): BuildError {
  return new BuildError(status.message, {
    code: knownCode(status.code),
    told: true,
    details: status.details.map(decodeDetail),
  });
}

/** The two or three trailers of a finished call. */
export function statusHeaders(status: Status): Record<string, string> {
  const headers: Record<string, string> = { 'grpc-status': String(status.code) };
  if (status.message !== '') headers['grpc-message'] = percentEncode(status.message);
  if (status.details.length > 0)
    headers['grpc-status-details-bin'] = Buffer.from(Status.encode(status).finish()).toString('base64');
  return headers;
}

/** The error that trailers carry, or undefined when the call succeeded. `code` is the value of grpc-status. */
export function errorOfHeaders(code: string, message: string | undefined, detailsBin: string | undefined) {
  const number = /^\d{1,3}$/.test(code) ? Number(code) : Code.unknown;
  if (number === Code.ok) return undefined;
  const text = percentDecode(message ?? '');
  if (detailsBin !== undefined) {
    try {
      const status = Status.decode(Buffer.from(detailsBin, 'base64'));
      if (status.code === number) return errorOf(status);
    } catch {
      // Broken details must not hide the error itself.
    }
  }
  return errorOf({ code: number, message: text, details: [] });
}

/** What a response without gRPC status means (gRPC over HTTP/2, mapping of HTTP codes). */
export function errorOfHttp(status: number): BuildError {
  const code =
    status === 400
      ? Code.internal
      : status === 401
        ? Code.unauthenticated
        : status === 403
          ? Code.permissionDenied
          : status === 404
            ? Code.unimplemented
            : status === 429 || (status >= 502 && status <= 504)
              ? Code.unavailable
              : Code.unknown;
  return new BuildError(`unexpected HTTP status code received from server: ${status}`, { code });
}

/** What RST_STREAM with this HTTP/2 error code means. */
export function errorOfReset(code: number): BuildError {
  if (code === 8) return new BuildError('context canceled', { code: Code.canceled });
  const grpc =
    code === 7
      ? Code.unavailable
      : code === 11
        ? Code.resourceExhausted
        : code === 12
          ? Code.permissionDenied
          : Code.internal;
  return new BuildError(`stream terminated by RST_STREAM with error code: ${code}`, { code: grpc });
}

function knownCode(code: number): Code {
  return code > 0 && code < NAMES.length ? (code as Code) : Code.unknown;
}

function encodeDetail(detail: ErrorDetail): { typeUrl: string; value: Uint8Array } {
  if ('typeUrl' in detail) return { typeUrl: detail.typeUrl, value: detail.bytes };
  const json = JSON.stringify(detail.value ?? {}, (_key, value: unknown) =>
    typeof value === 'bigint'
      ? Number(value)
      : value instanceof Uint8Array
        ? Buffer.from(value).toString('base64')
        : value,
  );
  return { typeUrl: `${URL_PREFIX}${detail.type}${URL_SUFFIX}`, value: Buffer.from(json) };
}

function decodeDetail(packed: { typeUrl: string; value: Uint8Array }): ErrorDetail {
  if (packed.typeUrl.startsWith(URL_PREFIX) && packed.typeUrl.endsWith(URL_SUFFIX)) {
    try {
      const value: unknown = JSON.parse(Buffer.from(packed.value).toString('utf8'));
      return { type: packed.typeUrl.slice(URL_PREFIX.length, -URL_SUFFIX.length), value };
    } catch {
      // Not JSON after all: passed on untouched.
    }
  }
  return { typeUrl: packed.typeUrl, bytes: packed.value };
}

/** grpc-message form: every byte outside printable ASCII, and `%`, as %XX of its UTF-8. */
export function percentEncode(text: string): string {
  let out = '';
  for (const byte of Buffer.from(text, 'utf8'))
    out +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return out;
}

export function percentDecode(text: string): string {
  if (!text.includes('%')) return text;
  const bytes: number[] = [];
  for (let i = 0; i < text.length; i++) {
    const hex = text[i] === '%' ? text.slice(i + 1, i + 3) : '';
    if (/^[0-9a-fA-F]{2}$/.test(hex)) {
      bytes.push(Number.parseInt(hex, 16));
      i += 2;
    } else bytes.push(text.charCodeAt(i) & 0xff);
  }
  return Buffer.from(bytes).toString('utf8');
}
