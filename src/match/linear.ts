/** What is asked of a compiled pattern. */
export interface PathTest {
  test(path: string): boolean;
}

interface Step {
  readonly kind: 'one' | 'repeat' | 'directories';
  /** Of the single character that `one` takes and `repeat` takes any number of. */
  readonly accepts: RegExp;
}

const DIRECTORIES = ['(', '[^\\n]', '*', '/', ')', '?'];
const NOTHING = /(?!)/;
const ANYTHING: Step = { kind: 'repeat', accepts: /./s };

/** How many parts of an expression, given as its atoms, may take different lengths of a path. */
export function countRepeats(atoms: readonly string[]): number {
  return atoms.filter((atom) => atom === '*' || /^\{\d/.test(atom)).length;
}

/**
 * Matches in time proportional to path and pattern, where a regular expression that tries one length after the
 * other takes hours. For alternatives of characters, `*` and `(.*\/)?`; undefined for anything else.
 */
export function linearMatcher(atoms: readonly string[]): PathTest | undefined {
  const alternatives: Step[][] = [];
  for (let from = 0; from <= atoms.length; ) {
    const bar = atoms.indexOf('|', from);
    const end = bar < 0 ? atoms.length : bar;
    const steps = stepsOf(atoms.slice(from, end));
    if (!steps) return undefined;
    alternatives.push(steps);
    from = end + 1;
  }
  return {
    test: (path) => {
      const chars = Array.from(path);
      return alternatives.some((steps) => matches(steps, chars));
    },
  };
}

/** Of one alternative; where it is not anchored anything may stand. */
function stepsOf(atoms: readonly string[]): Step[] | undefined {
  const anchored = atoms[0] === '(?:^)';
  const closed = atoms.at(-1) === '$';
  const body = atoms.slice(anchored ? 1 : 0, closed ? -1 : undefined);
  const steps: Step[] = anchored ? [] : [ANYTHING];
  for (let at = 0; at < body.length; ) {
    const atom = body[at]!;
    if (DIRECTORIES.every((part, i) => body[at + i] === part)) {
      steps.push({ kind: 'directories', accepts: NOTHING });
      at += DIRECTORIES.length;
      continue;
    }
    // Anything but a character or a set: counts, word boundaries, anchors within.
    if (/^(?:[$()*?]|\{|\(\?)/.test(atom)) return undefined;
    const kind = body[at + 1] === '*' ? 'repeat' : 'one';
    steps.push({ kind, accepts: new RegExp(`^(?:${atom})$`, 'u') });
    at += kind === 'repeat' ? 2 : 1;
  }
  if (!closed) steps.push(ANYTHING);
  return steps;
}

/** Goes through the steps with all places that can be reached at once. */
function matches(steps: readonly Step[], chars: readonly string[]): boolean {
  let places = new Uint8Array(chars.length + 1);
  places[0] = 1;
  for (const step of steps) places = advance(step, places, chars);
  return places[chars.length] === 1;
}

function advance(
  { kind, accepts }: Step,
  from: Uint8Array,
  chars: readonly string[],
): Uint8Array<ArrayBuffer> {
  const to = new Uint8Array(from.length);
  if (kind !== 'one') to.set(from);
  let line = false;
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at]!;
    if (kind === 'directories') {
      line ||= from[at] === 1;
      if (line && char === '/') to[at + 1] = 1;
      if (char === '\n') line = false;
    } else if ((kind === 'one' ? from[at] : to[at]) === 1 && accepts.test(char)) to[at + 1] = 1;
  }
  return to;
}
