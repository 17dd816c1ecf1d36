import { BuildError } from '../../base/errors.ts';

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
const LIMIT = 1n << 63n;

/** `1h30m`, `1.5s`, `-2ms`: nanoseconds. */
export function parseDuration(text: string): bigint {
  const invalid = () => new BuildError(`time: invalid duration ${quoteBytes(text)}`);
  const negative = text.startsWith('-');
  let rest = text.replace(/^[+-]/, '');
  if (rest === '0') return 0n;
  if (rest === '') throw invalid();
  let total = 0n;
  while (rest !== '') {
    const [whole, digits = '', fraction = '', unitName = ''] = /^([0-9]*)(?:\.([0-9]*))?([^0-9.]*)/.exec(
      rest,
    )!;
    const count = BigInt(digits || '0');
    if ((digits === '' && fraction === '') || count > LIMIT) throw invalid();
    if (unitName === '') throw new BuildError(`time: missing unit in duration ${quoteBytes(text)}`);
    const unit = Object.hasOwn(UNITS, unitName) ? UNITS[unitName] : undefined;
    if (unit === undefined)
      throw new BuildError(`time: unknown unit ${quoteBytes(unitName)} in duration ${quoteBytes(text)}`);
    total += count * unit + fractionOf(fraction, unit);
    if (total > LIMIT) throw invalid();
    rest = rest.slice(whole.length);
  }
  if (!negative && total === LIMIT) throw invalid();
  return negative ? -total : total;
}

/** `0.digits` of a unit, with the rounding of a double; digits beyond 64 bits do not count. */
function fractionOf(digits: string, unit: bigint): bigint {
  let value = 0n;
  let scale = 1;
  for (const digit of digits) {
    if (value > (LIMIT - 1n) / 10n) break;
    const next = value * 10n + BigInt(digit);
    if (next > LIMIT) break;
    value = next;
    scale *= 10;
  }
  return value === 0n ? 0n : BigInt(Math.trunc(Number(value) * (Number(unit) / scale)));
}

/** In quotes, with everything that is not ASCII as bytes. */
function quoteBytes(text: string): string {
  const bytes = (part: string): string =>
    [...Buffer.from(part)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones to show
  return `"${text.replace(/["\\]/g, '\\$&').replace(/[^\x20-\x7f]+/g, bytes)}"`;
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
