import { parseDuration } from '../base/duration.ts';
import { invalidArgument } from '../base/errors.ts';
import type { Decoder } from './config-schema.ts';

/** Part of a disk: bytes, or a share of the disk that holds the root directory (FEATURES A25). */
export type DiskSpace = { readonly bytes: number } | { readonly percent: number };

const UNITS = ['', 'k', 'm', 'g', 't', 'p'];
const GIB = 2 ** 30;
/** Taken for a share when the size of the disk is unknown. */
const UNKNOWN_DISK_BYTES = 2e9;

/** `512MB` (= 512·1024²), `1.5g`, `20%` or a number of bytes; undefined when it is none of these. */
export function parseDiskSpace(text: string): DiskSpace | undefined {
  const share = /^([+-]?\d+)%$/.exec(text);
  if (share) return { percent: Number(share[1]) };
  const match = /^(\d+(?:\.\d*)?|\.\d+) ?(?:([kmgtp])(?:i?b)?|b)?$/i.exec(text);
  if (!match) return undefined;
  const scale = 1024 ** UNITS.indexOf((match[2] ?? '').toLowerCase());
  return { bytes: Math.trunc(Number(match[1]) * scale) };
}

/** Bytes of `space` on a disk of `diskBytes` (0: unknown). A share is rounded up to the next GB. */
export function diskBytes(space: DiskSpace | undefined, totalBytes: number): number {
  if (space === undefined) return 0;
  if ('bytes' in space) return space.bytes;
  if (space.percent === 0) return 0;
  if (totalBytes === 0) return UNKNOWN_DISK_BYTES;
  return (Math.floor(Math.trunc((totalBytes * space.percent) / 100) / GIB) + 1) * 1e9;
}

export const diskSpace: Decoder<DiskSpace> = (value, key) => {
  if (typeof value === 'number' && Number.isInteger(value)) return { bytes: value };
  const parsed = typeof value === 'string' ? parseDiskSpace(value) : undefined;
  if (parsed === undefined)
    throw invalidArgument(`invalid configuration: ${key}: invalid disk space ${value}`);
  return parsed;
};

/** Milliseconds, of a number of seconds or a duration such as `48h`. */
export const durationMs: Decoder<number> = (value, key) => {
  if (typeof value === 'number' && Number.isInteger(value)) return value * 1000;
  if (typeof value === 'string') {
    if (value === '') return 0;
    const nanoseconds = parseDuration(value);
    if (nanoseconds !== undefined) return Number(nanoseconds) / 1e6;
    if (/^[+-]?\d+$/.test(value)) return Number(value) * 1000;
  }
  throw invalidArgument(`invalid configuration: ${key}: invalid duration ${value}`);
};
