import type { HttpResponse } from './response.ts';

/** Longest wait that a server's Retry-After can ask for, and the first of those without one. */
const MAX_THROTTLE_MS = 10_000;
const THROTTLE_MS = 100;

/** Milliseconds to wait before the next try of a request that was answered so `throttled` times before. */
export function throttleMs(response: HttpResponse, throttled: number): number {
  const asked = response.header('retry-after');
  const seconds = asked !== undefined && /^\d+$/.test(asked) ? Number(asked) : undefined;
  return Math.min(seconds === undefined ? backoffMs(throttled) : seconds * 1000, MAX_THROTTLE_MS) || 1;
}

/** The same where the server says nothing: 0.1, 0.2, 0.4 s and so on. */
export function backoffMs(tries: number): number {
  return Math.min(THROTTLE_MS * 2 ** tries, MAX_THROTTLE_MS);
}
