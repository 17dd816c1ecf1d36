export const CONNECT_TIMEOUT_MS = 30_000;
/** A connection on which nothing moves for this long is given up. */
export const IDLE_TIMEOUT_MS = 180_000;
export const KEEP_ALIVE_MS = 120_000;
/** To one server. */
export const MAX_IDLE_CONNECTIONS = 4;

export function timeoutError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ETIMEDOUT' });
}
