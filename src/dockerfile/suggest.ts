import { BuildError } from '../base/errors.ts';

/** Edits from which on a name is no longer a likely misspelling. */
const TOO_FAR = 3;

/** Edit distance of two texts, counted in code points. */
export function editDistance(a: string, b: string): number {
  const left = [...a];
  const right = [...b];
  let previous = Array.from({ length: right.length + 1 }, (_, i) => i);
  left.forEach((character, row) => {
    const current = [row + 1];
    right.forEach((other, column) => {
      const swap = previous[column]! + (character === other ? 0 : 1);
      current.push(Math.min(swap, previous[column + 1]! + 1, current[column]! + 1));
    });
    previous = current;
  });
  return previous[right.length]!;
}

/**
 * The option that `value` most likely means, or undefined. An exact hit gives undefined too: the
 * problem was then not the spelling. Without `caseSensitive` the answer takes the case of `value`.
 */
export function closest(
  value: string,
  options: Iterable<string>,
  caseSensitive: boolean,
): string | undefined {
  const wanted = caseSensitive ? value : value.toLowerCase();
  let best: string | undefined;
  let bestDistance = TOO_FAR;
  for (const option of options) {
    const candidate = caseSensitive ? option : option.toLowerCase();
    if (candidate === wanted) return undefined;
    if (Math.abs(candidate.length - wanted.length) >= 2 * bestDistance) continue;
    const distance = editDistance(wanted, candidate);
    if (distance >= bestDistance) continue;
    bestDistance = distance;
    best = caseSensitive ? candidate : inCaseOf(candidate, value);
  }
  return best || undefined;
}

function inCaseOf(text: string, model: string): string {
  if (model === model.toLowerCase()) return text.toLowerCase();
  if (model === model.toUpperCase()) return text.toUpperCase();
  return text;
}

/** ` (did you mean x?)`, or nothing. */
export function suggestion(value: string, options: Iterable<string>, caseSensitive: boolean): string {
  const match = closest(value, options, caseSensitive);
  return match === undefined ? '' : ` (did you mean ${match}?)`;
}

export function suggestError(
  message: string,
  value: string,
  options: Iterable<string>,
  caseSensitive: boolean,
): BuildError {
  return new BuildError(message + suggestion(value, options, caseSensitive));
}
