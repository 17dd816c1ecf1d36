import type { Timestamp } from '../pb/google/protobuf/timestamp.ts';

const NANOS = 1_000_000_000n;

/** Unix nanoseconds to the wire's timestamp. */
export function timestampOfNanos(nanos: bigint): Timestamp {
  const seconds = nanos / NANOS;
  const rest = nanos % NANOS;
  return rest < 0n
    ? { seconds: seconds - 1n, nanos: Number(rest + NANOS) }
    : { seconds, nanos: Number(rest) };
}

export function timestampOfDate(date: Date): Timestamp {
  return timestampOfNanos(BigInt(date.getTime()) * 1_000_000n);
}

/** Unix nanoseconds of a wire timestamp; 0 when there is none. */
export function nanosOf(time: Timestamp | undefined): bigint {
  return time ? time.seconds * NANOS + BigInt(time.nanos) : 0n;
}
