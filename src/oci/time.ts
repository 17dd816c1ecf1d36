import { invalidArgument } from '../base/errors.ts';

const RFC3339 = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:[.,](\d{1,}))?(Z|[+-]\d{2}:\d{2})$/;

/** A point in time with the zone it was written in, to the nanosecond. */
export interface ImageTime {
  /** Unix time in nanoseconds. */
  readonly ns: bigint;
  /** RFC 3339 as Go prints it: no trailing zeros in the fraction, the zone kept. */
  readonly text: string;
}

/** @throws invalidArgument */
export function parseTime(text: string): ImageTime {
  const match = RFC3339.exec(text);
  const fraction = (match?.[7] ?? '').slice(0, 9);
  const seconds = match ? Date.parse(`${text.slice(0, 19)}${match[8]}`) / 1000 : Number.NaN;
  if (!match || Number.isNaN(seconds))
    throw invalidArgument(`parsing time ${JSON.stringify(text)}: no RFC 3339 time`);
  const trimmed = fraction.replace(/0+$/, '');
  const zone = match[8] === '+00:00' || match[8] === '-00:00' ? 'Z' : match[8];
  return {
    ns: BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0')),
    text: `${text.slice(0, 19)}${trimmed === '' ? '' : `.${trimmed}`}${zone}`,
  };
}

export function timeFromDate(date: Date): ImageTime {
  return parseTime(date.toISOString());
}

/** Whole seconds, UTC, as annotations have it. */
export function formatSeconds(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}
