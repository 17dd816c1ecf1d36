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
export type Code = (typeof Code)[keyof typeof Code];

/**
 * A typed error detail (FEATURES B3). `type` is the name after `github.com/moby/buildkit/`
 * without `+json`, e.g. `errdefs.Vertex`; `value` is its JSON form with the wire's field names.
 * A detail of a type nobody here knows is kept as raw bytes under its full type URL.
 */
export type ErrorDetail =
  | { readonly type: string; readonly value: unknown }
  | { readonly typeUrl: string; readonly bytes: Uint8Array };

export interface BuildErrorOptions {
  readonly code?: Code;
  readonly cause?: unknown;
  readonly details?: readonly ErrorDetail[];
  /** What the user can do, one sentence, shown on its own line. */
  readonly hint?: string;
  /** The code means something to the other side of the wire too: it came from there, or is part of the protocol. */
  readonly told?: boolean;
}

/** The one error class that crosses rooms and the wire. Anything else that is thrown is our own bug. */
export class BuildError extends Error {
  readonly code: Code;
  readonly details: readonly ErrorDetail[];
  readonly hint: string | undefined;
  readonly told: boolean;

  constructor(message: string, options: BuildErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BuildError';
    this.code = options.code ?? Code.unknown;
    this.details = options.details ?? [];
    this.hint = options.hint;
    this.told = options.told ?? false;
  }

  /** The only conversion from a caught value. Aborts become `canceled` with the text clients look for. */
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

  /** Same error with `prefix: ` in front of its message; code, details and hint are kept. */
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

  /** Same error with more details, outermost last. */
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

export function notFound(message: string, cause?: unknown): BuildError {
  return new BuildError(message, { code: Code.notFound, cause });
}

export function invalidArgument(message: string, cause?: unknown): BuildError {
  return new BuildError(message, { code: Code.invalidArgument, cause });
}

export function canceled(cause?: unknown): BuildError {
  return new BuildError('context canceled', { code: Code.canceled, cause });
}

export function hasCode(error: unknown, code: Code): boolean {
  return error instanceof BuildError && error.code === code;
}

/** True for an abort in any form it takes: DOMException, BuildError or Node's own. */
export function isCanceled(error: unknown): boolean {
  return hasCode(error, Code.canceled) || (error instanceof Error && error.name === 'AbortError');
}

/** The `code` of a Node system error (`ENOENT`, …), or undefined. */
export function errno(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
