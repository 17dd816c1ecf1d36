import { BuildError, type ErrorDetail } from '../base/errors.ts';
import type { Location, Position } from './location.ts';

/** An error that knows which lines of the Dockerfile it comes from, innermost location first. */
export class LocatedError extends BuildError {
  readonly locations: readonly Location[];

  constructor(cause: BuildError, message: string, locations: readonly Location[]) {
    super(message, {
      code: cause.code,
      cause,
      details: cause.details,
      told: cause.told,
      ...(cause.hint === undefined ? {} : { hint: cause.hint }),
    });
    this.locations = locations;
  }
}

export function locationsOf(error: unknown): readonly Location[] {
  return error instanceof LocatedError ? error.locations : [];
}

/** The error with one more, outer location. */
export function atLocation(error: unknown, location: Location): LocatedError {
  const inner = BuildError.from(error);
  return new LocatedError(inner, inner.message, [...locationsOf(inner), location]);
}

/** The error with `location` in place of those it had (its own lines are of another text). */
export function onlyAt(error: unknown, location: Location): LocatedError {
  const inner = BuildError.from(error);
  return new LocatedError(inner, inner.message, [location]);
}

/** The error with another message; locations, code and details stay. */
export function reworded(error: unknown, message: string): BuildError {
  const inner = BuildError.from(error);
  return new LocatedError(inner, message, locationsOf(inner));
}

/** What a source detail says about the file. `definition` is the JSON form of the LLB that brought it. */
export interface SourceDescription {
  readonly filename: string;
  readonly data: Uint8Array;
  readonly language: string;
  readonly definition?: unknown;
}

/** One `errdefs.Source` detail (FEATURES B3). */
export function sourceDetail(source: SourceDescription, location: Location): ErrorDetail {
  return {
    type: 'errdefs.Source',
    value: {
      info: {
        filename: source.filename,
        data: Buffer.from(source.data).toString('base64'),
        ...(source.definition === undefined ? {} : { definition: source.definition }),
        language: source.language,
      },
      ranges: location.map((range) => ({ start: position(range.start), end: position(range.end) })),
    },
  };
}

function position(at: Position): { line?: number; character?: number } {
  return {
    ...(at.line === 0 ? {} : { line: at.line }),
    ...(at.character === 0 ? {} : { character: at.character }),
  };
}

/** Turns the locations of an error into source details for clients. Other errors pass as they are. */
export function withSources(error: unknown, source: SourceDescription): BuildError {
  const inner = BuildError.from(error);
  return locationsOf(inner).reduce<BuildError>(
    (result, location) => result.with(sourceDetail(source, location)),
    inner,
  );
}
