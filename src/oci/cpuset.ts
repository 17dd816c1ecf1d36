import { BuildError } from '../base/errors.ts';

/** Highest number of a processor or memory node: a range of a client's cannot ask for much memory. */
const MAX_NUMBER = 8192;

/** Numbers of a list such as `0-3,5`; none of an empty one. @throws BuildError naming the bad element */
export function parseCpuset(text: string): Set<number> {
  const numbers = new Set<number>();
  for (const element of text.split(',').map((part) => part.trim())) {
    if (element === '') continue;
    const range = /^\+?(\d+)(?:\s*-\s*\+?(\d+))?$/.exec(element);
    const kind = element.includes('-') ? 'range' : 'element';
    const first = Number(range?.[1]);
    const last = Number(range?.[2] ?? range?.[1]);
    if (!range || last < first) throw new BuildError(`invalid cpuset ${kind} ${JSON.stringify(element)}`);
    if (last > MAX_NUMBER)
      throw new BuildError(`cpuset ${kind} ${JSON.stringify(element)} exceeds maximum ${MAX_NUMBER}`);
    for (let number = first; number <= last; number++) numbers.add(number);
  }
  return numbers;
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
