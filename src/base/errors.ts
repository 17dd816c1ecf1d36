/** gRPC status codes by number (grpc/status.proto order). */
export const Code = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;
/** One of the codes. */
export type Code = (typeof Code)[keyof typeof Code];

/**
 * A typed error detail (FEATURES B3). `type` is the name after `github.com/moby/buildkit/`
 * without `+json`, e.g. `errdefs.Vertex`; `value` is its JSON form with the wire's field names.
 * A detail of a type nobody here knows is kept as raw bytes under its full type URL.
 */
export type ErrorDetail =
  | { readonly type: string; readonly value: unknown }
  | { readonly typeUrl: string; readonly bytes: Uint8Array };

/** A place in a source file (a Dockerfile, …) that an error is about. Lines count from 1, characters from 0. */
export interface ErrorSource {
  readonly filename: string;
  /** `Dockerfile`, … or ''. */
  readonly language: string;
  /** The whole file. */
  readonly text: string;
  readonly ranges: readonly {
    readonly start: { readonly line: number; readonly character: number };
    readonly end: { readonly line: number; readonly character: number };
  }[];
}

/** What an error has beside its message. */
export interface BuildErrorOptions {
  readonly code?: Code;
  readonly cause?: unknown;
  readonly details?: readonly ErrorDetail[];
  /** What the user can do, one sentence, shown on its own line. */
  readonly hint?: string;
  /**
   * The code means something to the other side of the wire too: it came from there, or is part of the protocol.
   * @internal
   */
  readonly told?: boolean;
}

/**
 * The one error class that crosses rooms and the wire, and that users of the libraries see. Anything else that is
 * thrown is our own bug.
 */
export class BuildError extends Error {
  readonly code: Code;
  /** Innermost first. */
  readonly details: readonly ErrorDetail[];
  /** What the user can do, one sentence. */
  readonly hint: string | undefined;
  /** @internal */
  readonly told: boolean;

  constructor(message: string, options: BuildErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BuildError';
    this.code = options.code ?? Code.unknown;
    this.details = options.details ?? [];
    this.hint = options.hint;
    this.told = options.told ?? false;
  }

  /** Digest of the step that failed, as progress names it; undefined when no step did. */
  get vertex(): string | undefined {
    for (const detail of this.details) {
      if (!('type' in detail) || detail.type !== 'errdefs.Vertex') continue;
      const { digest } = detail.value as { digest?: unknown };
      if (typeof digest === 'string' && digest !== '') return digest;
    }
    return undefined;
  }

  /** The lines of source files that led to the error, innermost first. */
  get sources(): readonly ErrorSource[] {
    return this.details.flatMap((detail) =>
      'type' in detail && detail.type === 'errdefs.Source' ? sourceOf(detail.value) : [],
    );
  }

  /**
   * The only conversion from a caught value. Aborts become `canceled` with the text clients look for.
   * @internal
   */
  static from(error: unknown): BuildError {
    if (error instanceof BuildError) return error;
    // What failed first says more than what failed while it was cleared up after.
    if (error instanceof SuppressedError) return BuildError.from(error.suppressed);
    if (error instanceof Error) {
      if (error.name === 'AbortError')
        return new BuildError('context canceled', { code: Code.canceled, cause: error });
      if (error.name === 'TimeoutError')
        return new BuildError('context deadline exceeded', { code: Code.deadlineExceeded, cause: error });
      return new BuildError(error.message, { cause: error });
    }
    return new BuildError(String(error));
  }

  /**
   * Same error with `prefix: ` in front of its message; code, details and hint are kept.
   * @internal
   */
  static wrap(error: unknown, prefix: string): BuildError {
    const inner = BuildError.from(error);
    return new BuildError(`${prefix}: ${inner.message}`, {
      code: inner.code,
      cause: inner,
      details: inner.details,
      told: inner.told,
      ...(inner.hint === undefined ? {} : { hint: inner.hint }),
    });
  }

  /**
   * Same error with more details, outermost last.
   * @internal
   */
  with(...details: ErrorDetail[]): BuildError {
    return new BuildError(this.message, {
      code: this.code,
      cause: this,
      details: [...this.details, ...details],
      told: this.told,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
    });
  }
}

/** An `errdefs.Source` as it comes over the wire, JSON of its message: parts may be missing. */
interface WireSource {
  readonly info?: { readonly filename?: string; readonly language?: string; readonly data?: string };
  readonly ranges?: readonly { readonly start?: WirePosition; readonly end?: WirePosition }[];
}
interface WirePosition {
  readonly line?: number;
  readonly character?: number;
}

function sourceOf(value: unknown): ErrorSource[] {
  const { info, ranges = [] } = value as WireSource;
  if (info === undefined) return [];
  const position = ({ line = 0, character = 0 }: WirePosition = {}) => ({ line, character });
  return [
    {
      filename: info.filename ?? '',
      language: info.language ?? '',
      text: Buffer.from(info.data ?? '', 'base64').toString(),
      ranges: ranges.map(({ start, end }) => ({ start: position(start), end: position(end) })),
    },
  ];
}

/** @internal */
export function notFound(message: string, cause?: unknown): BuildError {
  return new BuildError(message, { code: Code.notFound, cause });
}

/** @internal */
export function invalidArgument(message: string, cause?: unknown): BuildError {
  return new BuildError(message, { code: Code.invalidArgument, cause });
}

/** @internal */
export function canceled(cause?: unknown): BuildError {
  return new BuildError('context canceled', { code: Code.canceled, cause });
}

/**
 * What a call ends with whose signal has aborted: the reason if it is one of ours; a timeout is `deadlineExceeded`, all
 * else `canceled`.
 * @internal
 */
export function abortError({ reason }: AbortSignal): BuildError {
  if (reason instanceof BuildError) return reason;
  if (reason instanceof Error && reason.name === 'TimeoutError') return BuildError.from(reason);
  return canceled(reason);
}

/** @internal */
export function hasCode(error: unknown, code: Code): boolean {
  return error instanceof BuildError && error.code === code;
}

/**
 * True for an abort in any form it takes: DOMException, BuildError or Node's own.
 * @internal
 */
export function isCanceled(error: unknown): boolean {
  return hasCode(error, Code.canceled) || (error instanceof Error && error.name === 'AbortError');
}

/**
 * The `code` of a Node system error (`ENOENT`, …), or undefined.
 * @internal
 */
export function errno(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
