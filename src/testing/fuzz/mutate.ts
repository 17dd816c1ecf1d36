import { TOKENS } from './grammar.ts';
import type { Random } from './random.ts';

/** Of one case, so that a case takes milliseconds. */
const MAX_LENGTH = 200_000;
/** What slow readers are slow on: many of the same. */
const MAX_REPEATS = 20_000;

/** A few changes of `text`: pieces left out, doubled, moved, repeated very often, or put in. */
export function mutate(text: string, random: Random): string {
  let out = text;
  for (let left = random.size(6); left > 0; left--) out = mutateOnce(out, random).slice(0, MAX_LENGTH);
  return out;
}

function mutateOnce(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  const end = at + random.size(Math.min(40, text.length - at) + 1);
  const span = text.slice(at, end);
  const put = (piece: string, from = at): string => text.slice(0, at) + piece + text.slice(from);
  switch (random.below(9)) {
    case 0:
      return put('', end);
    case 1:
      return put(span + span, end);
    case 2:
      return put(random.pick(TOKENS), end);
    case 3:
      return put(repeated(random.once(2) ? random.pick(TOKENS) : span, random), end);
    case 4:
      return swapLines(text, random);
    case 5:
      return text.slice(0, at);
    case 6:
      return put(String.fromCharCode(random.below(random.once(3) ? 0x10000 : 0x80)));
    default:
      return put(random.pick(TOKENS));
  }
}

function repeated(piece: string, random: Random): string {
  const times = random.once(20) ? random.below(MAX_REPEATS) : random.below(40);
  return piece.repeat(Math.min(times, Math.floor(MAX_LENGTH / Math.max(1, piece.length))));
}

function swapLines(text: string, random: Random): string {
  const lines = text.split('\n');
  const a = random.below(lines.length);
  const b = random.below(lines.length);
  [lines[a], lines[b]] = [lines[b]!, lines[a]!];
  return lines.join('\n');
}
