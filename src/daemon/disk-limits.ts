import type { FileSystemSpace } from '../sys/stat.ts';
import type { DiskSpace } from './config-values.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** How much of a disk is to stay free, and from when on room is made. */
export interface DiskLimits {
  /** What the state directory may take, bytes; undefined = the whole disk. */
  readonly ceilingBytes: number | undefined;
  /** Kept free of the disk for the daemon's own records: builds end before they take it. */
  readonly reserveBytes: number;
  /** Room is made when less than this is left. */
  readonly marginBytes: number;
  /** The most that is expected to be written before a step can be stopped: a burst of a few samples proves nothing. */
  readonly foreseenBytes: number;
}

const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));

/** Limits for a disk of this size. A share of the disk is taken exactly, other than for policies. */
export function diskLimits(hardLimit: DiskSpace | undefined, totalBytes: number): DiskLimits {
  const ceilingBytes =
    hardLimit &&
    ('bytes' in hardLimit ? hardLimit.bytes : Math.floor((totalBytes * hardLimit.percent) / 100));
  const size = Math.min(ceilingBytes ?? totalBytes, totalBytes);
  return {
    ceilingBytes,
    reserveBytes: Math.min(totalBytes / 10, clamp(totalBytes / 100, 16 * MIB, 256 * MIB)),
    marginBytes: Math.min(size / 8, clamp(size / 20, 64 * MIB, GIB)),
    foreseenBytes: size / 8,
  };
}

/** Bytes that may still be written. Negative when a limit is passed. */
export function headroom(limits: DiskLimits, space: FileSystemSpace, usedBytes: number): number {
  const disk = space.availableBytes - limits.reserveBytes;
  return limits.ceilingBytes === undefined ? disk : Math.min(disk, limits.ceilingBytes - usedBytes);
}

/** What the state directory takes now, 0 before the first measurement: what was measured, and what the disk has gained or lost since. */
export class UsedBytes {
  #bytes = 0;
  #taken = 0;
  #at = Number.NEGATIVE_INFINITY;

  /** @param taken bytes of the disk in use at the time of measuring */
  set(bytes: number, taken: number, at: number): void {
    this.#bytes = bytes;
    this.#taken = taken;
    this.#at = at;
  }

  estimate(space: FileSystemSpace): number {
    if (this.#at === Number.NEGATIVE_INFINITY) return 0;
    return Math.max(0, this.#bytes + takenBytes(space) - this.#taken);
  }

  /** When the measurement began. */
  get at(): number {
    return this.#at;
  }
}

export function takenBytes({ totalBytes, freeBytes }: FileSystemSpace): number {
  return totalBytes - freeBytes;
}
