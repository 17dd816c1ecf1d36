import { BuildError } from '../../base/errors.ts';
import { quote } from '../text.ts';

const POWERS: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3, t: 4, p: 5 };

const INT64 = 64;

/** `64m`, `1.5GiB`, `100`: bytes with k=1024; undefined when it cannot be read. Too many are the least number. */
export function memoryBytes(text: string): bigint | undefined {
  const match = /^(.*[0-9. ])?([^0-9. ]*)$/s.exec(text);
  const digits = match?.[1]?.replace(/ $/, '');
  if (!match || digits === undefined || !/^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?$/i.test(digits))
    return undefined;
  const size = Number(digits);
  if (size < 0 || size === Number.POSITIVE_INFINITY) return undefined;
  const suffix = /^(?:([kmgtp])(?:i?b)?|b)?$/i.exec(match[2] ?? '');
  if (!suffix) return undefined;
  const bytes = size * 1024 ** (POWERS[suffix[1]?.toLowerCase() ?? ''] ?? 0);
  return bytes < 2 ** (INT64 - 1) ? BigInt(Math.trunc(bytes)) : -(1n << BigInt(INT64 - 1));
}

const UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  '\u00b5s': 1_000n,
  '\u03bcs': 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};
const MAX_NANOSECONDS = (1n << 63n) - 1n;

/** `1h30m`, `1.5s`, `-2ms`: nanoseconds. */
export function parseDuration(text: string): bigint {
  const invalid = () => new BuildError(`time: invalid duration ${quote(text)}`);
  const negative = text.startsWith('-');
  let rest = text.replace(/^[+-]/, '');
  if (rest === '0') return 0n;
  if (rest === '') throw invalid();
  let total = 0n;
  while (rest !== '') {
    const match = /^([0-9]*)(?:\.([0-9]*))?([^0-9.]*)/.exec(rest)!;
    const [whole, digits = '', fraction = '', unitName = ''] = match;
    if (digits === '' && fraction === '') throw invalid();
    if (unitName === '') throw new BuildError(`time: missing unit in duration ${quote(text)}`);
    const unit = Object.hasOwn(UNITS, unitName) ? UNITS[unitName] : undefined;
    if (unit === undefined)
      throw new BuildError(`time: unknown unit ${quote(unitName)} in duration ${quote(text)}`);
    total += BigInt(digits || '0') * unit;
    if (fraction !== '') total += (BigInt(fraction) * unit) / 10n ** BigInt(fraction.length);
    if (total > MAX_NANOSECONDS + (negative ? 1n : 0n)) throw invalid();
    rest = rest.slice(whole.length);
  }
  return negative ? -total : total;
}

/** `1m30s`, `500ms`, `0s` */
export function formatDuration(nanoseconds: bigint): string {
  if (nanoseconds === 0n) return '0s';
  const sign = nanoseconds < 0n ? '-' : '';
  const value = nanoseconds < 0n ? -nanoseconds : nanoseconds;
  if (value < 1_000n) return `${sign}${value}ns`;
  if (value < 1_000_000n) return `${sign}${decimal(value, 3)}\u00b5s`;
  if (value < 1_000_000_000n) return `${sign}${decimal(value, 6)}ms`;
  const seconds = `${decimal(value % UNITS.m!, 9)}s`;
  const minutes = value / UNITS.m!;
  if (minutes === 0n) return sign + seconds;
  const hours = minutes / 60n;
  return `${sign}${hours === 0n ? '' : `${hours}h`}${minutes % 60n}m${seconds}`;
}

/** `value / 10^digits` without trailing zeros. */
function decimal(value: bigint, digits: number): string {
  const scale = 10n ** BigInt(digits);
  const fraction = (value % scale).toString().padStart(digits, '0').replace(/0+$/, '');
  return `${value / scale}${fraction === '' ? '' : `.${fraction}`}`;
}
