/** A place in a text. Lines count from 1; columns are not told apart and are 0. */
export interface Position {
  readonly line: number;
  readonly character: number;
}

/** From one place to another, both included. */
export interface Range {
  readonly start: Position;
  readonly end: Position;
}

/** The lines of an instruction, one range each. */
export type Location = readonly Range[];

/** One range per line of `start`..`end`. */
export function lines(start: number, end: number): Location {
  const last = Math.max(start, end);
  return Array.from({ length: last - start + 1 }, (_, i) => {
    const position = { line: start + i, character: 0 };
    return { start: position, end: position };
  });
}
