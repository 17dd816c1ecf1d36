import { BuildError, type Code, type ErrorDetail } from '../base/errors.ts';

/** Messages between the pool and its threads. */
export interface JobMessage {
  readonly kind: 'job';
  readonly name: string;
  readonly input: unknown;
  /** One number, not 0 once the caller has given up. */
  readonly abort: SharedArrayBuffer;
}

export type WorkerMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'progress'; readonly value: unknown }
  | { readonly kind: 'done'; readonly value: unknown }
  | { readonly kind: 'failed'; readonly error: PlainError };

export interface PlainError {
  readonly message: string;
  readonly stack: string | undefined;
  readonly build:
    | { readonly code: Code; readonly details: readonly ErrorDetail[]; readonly hint: string | undefined }
    | undefined;
  readonly system: Readonly<Record<string, string | number>> | undefined;
  readonly cause: PlainError | undefined;
}

const MAX_CAUSES = 8;
const SYSTEM_FIELDS = ['code', 'errno', 'syscall', 'path', 'dest'] as const;

export function toPlainError(error: unknown, depth = 0): PlainError {
  const e = error instanceof Error ? error : new Error(String(error));
  const build = e instanceof BuildError ? { code: e.code, details: e.details, hint: e.hint } : undefined;
  const cause = e.cause === undefined || depth >= MAX_CAUSES ? undefined : toPlainError(e.cause, depth + 1);
  return { message: e.message, stack: e.stack, build, system: build ? undefined : systemFields(e), cause };
}

function systemFields(error: Error): Record<string, string | number> | undefined {
  const from = error as unknown as Record<string, unknown>;
  if (typeof from.code !== 'string') return undefined;
  const fields: Record<string, string | number> = {};
  for (const name of SYSTEM_FIELDS) {
    const value = from[name];
    if (typeof value === 'string' || typeof value === 'number') fields[name] = value;
  }
  return fields;
}

export function fromPlainError(plain: PlainError): BuildError {
  if (!plain.build) return new BuildError(plain.message, { cause: plainCause(plain) });
  return new BuildError(plain.message, {
    code: plain.build.code,
    details: plain.build.details,
    cause: plain.cause && causeOf(plain.cause),
    ...(plain.build.hint === undefined ? {} : { hint: plain.build.hint }),
  });
}

function causeOf(plain: PlainError): Error {
  return plain.build ? fromPlainError(plain) : plainCause(plain);
}

function plainCause(plain: PlainError): Error {
  const error = new Error(plain.message, plain.cause && { cause: causeOf(plain.cause) });
  if (plain.stack !== undefined) error.stack = plain.stack;
  return Object.assign(error, plain.system);
}
