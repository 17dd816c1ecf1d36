import { BuildError } from '../base/errors.ts';
import { lower, upper } from './text.ts';

/** Edits from which on a name is no longer a likely misspelling. */
const TOO_FAR = 3;

/** Edit distance of two texts, counted in code points; `limit` stands for it and all that is more. */
function editDistance(a: readonly string[], b: readonly string[], limit: number): number {
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  let current = [...previous];
  for (const [row, character] of a.entries()) {
    // Cells farther from the diagonal than the limit can not come back below it.
    const from = Math.max(0, row - limit);
    const to = Math.min(b.length, row + limit + 1);
    current[from] = from === 0 ? row + 1 : limit;
    let best = current[from]!;
    for (let column = from; column < to; column++) {
      const swap = previous[column]! + (character === b[column] ? 0 : 1);
      const cell = Math.min(swap, previous[column + 1]! + 1, current[column]! + 1);
      current[column + 1] = cell;
      best = Math.min(best, cell);
    }
    if (best >= limit) return limit;
    if (to < b.length) current[to + 1] = limit;
    [previous, current] = [current, previous];
  }
  return Math.min(limit, previous[b.length]!);
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
  const wanted = caseSensitive ? value : lower(value);
  const characters = [...wanted];
  let best: string | undefined;
  let bestDistance = TOO_FAR;
  for (const option of options) {
    const candidate = caseSensitive ? option : lower(option);
    if (candidate === wanted) return undefined;
    if (Math.abs(candidate.length - wanted.length) >= 2 * bestDistance) continue;
    const distance = editDistance(characters, [...candidate], bestDistance);
    if (distance >= bestDistance) continue;
    bestDistance = distance;
    best = caseSensitive ? candidate : inCaseOf(candidate, value);
  }
  return best || undefined;
}

function inCaseOf(text: string, model: string): string {
  if (model === lower(model)) return lower(text);
  if (model === upper(model)) return upper(text);
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
