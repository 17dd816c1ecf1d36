const RULE = '-'.repeat(20);
/** Lines shown around one line, and around several. */
const AROUND_ONE = 2;
const AROUND_MANY = 1;

/** Lines count from 1; an `end` before `start` counts as `start`. */
export interface LineRange {
  readonly start: number;
  readonly end: number;
}

/** The lines of a file around the ranges, with those in a range marked (FEATURES H29); undefined without any. */
export function sourceSnippet(
  filename: string,
  text: string,
  ranges: readonly LineRange[],
): string | undefined {
  const lines = text.split('\n');
  const whole = ranges.map(({ start, end }) => ({ start, end: Math.max(start, end) }));
  const first = Math.min(...whole.map((range) => range.start));
  const last = Math.max(...whole.map((range) => range.end));
  if (whole.length === 0 || first <= 0 || first > lines.length) return undefined;
  const around = first === last ? AROUND_ONE : AROUND_MANY;
  const out = [`${filename}:${first}`, RULE];
  for (let at = Math.max(1, first - around); at <= Math.min(lines.length, last + around); at++) {
    const marked = whole.some(({ start, end }) => at >= start && at <= end);
    out.push(` ${String(at).padStart(3)} | ${marked ? '>>>' : '   '} ${lines[at - 1]}`);
  }
  return [...out, RULE].join('\n');
}
