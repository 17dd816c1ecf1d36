import { readFileSync } from 'node:fs';

/** Of /proc/stat's times. */
const TICKS_PER_SECOND = 100;
const FIELDS = 'user nice system idle iowait irq softirq steal guest guestNice'.split(' ');

/** What all processors together have done since the machine's start, in seconds; undefined where nothing tells. */
export function cpuTimes(): Readonly<Record<string, number>> | undefined {
  try {
    return parseCpuTimes(readFileSync('/proc/stat', 'utf8'));
  } catch {
    return undefined; // a system without it
  }
}

/** @param stat a text as that of /proc/stat */
export function parseCpuTimes(stat: string): Record<string, number> {
  const [, ...ticks] = (/^cpu .*$/m.exec(stat)?.[0] ?? '').split(/\s+/);
  return Object.fromEntries(
    FIELDS.map((name, i) => {
      const seconds = Number(ticks[i] ?? 0) / TICKS_PER_SECOND;
      return [name, Math.round(seconds * 1000) / 1000];
    }),
  );
}
