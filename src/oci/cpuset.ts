import { BuildError } from '../base/errors.ts';

/** Highest number of a processor or memory node: a range of a client's cannot ask for much memory. */
const MAX_NUMBER = 8192;

type Range = readonly [first: number, last: number];

/** Numbers of a list such as `0-3,5`; none of an empty one. @throws BuildError naming the bad element */
export function parseCpuset(text: string): Set<number> {
  const ranges = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(parseRange)
    .sort(([a], [b]) => a - b);
  const numbers = new Set<number>();
  let next = 0; // of very many ranges that overlap, each number is visited once
  for (const [first, last] of ranges) {
    for (let number = Math.max(first, next); number <= last; number++) numbers.add(number);
    next = Math.max(next, last + 1);
  }
  return numbers;
}

function parseRange(element: string): Range {
  const range = /^\+?(\d+)(?:\s*-\s*\+?(\d+))?$/.exec(element);
  const kind = element.includes('-') ? 'range' : 'element';
  const first = Number(range?.[1]);
  const last = Number(range?.[2] ?? range?.[1]);
  const tooLong = BigInt(range?.[2] ?? range?.[1] ?? '0') >= 1n << 63n;
  if (!range || tooLong || last < first)
    throw new BuildError(`invalid cpuset ${kind} ${JSON.stringify(element)}`);
  if (last > MAX_NUMBER)
    throw new BuildError(`cpuset ${kind} ${JSON.stringify(element)} exceeds maximum ${MAX_NUMBER}`);
  return [first, last];
}

/** Sorted, with ranges where numbers follow one another. */
export function formatCpuset(numbers: ReadonlySet<number>): string {
  const ranges: [first: number, last: number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const open = ranges.at(-1);
    if (open && number === open[1] + 1) open[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}
