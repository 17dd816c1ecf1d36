import type { Socket } from 'node:net';

const CONNECT_TIMEOUT_MS = 30_000;
/** A connection on which nothing moves for this long is given up. */
export const IDLE_TIMEOUT_MS = 180_000;
export const KEEP_ALIVE_MS = 120_000;
/** To one server. */
export const MAX_IDLE_CONNECTIONS = 4;

export function timeoutError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ETIMEDOUT' });
}

/** Ends a connection that takes too long to be made. */
export function limitConnect(socket: Socket, isSecure: boolean, end: (error: Error) => void): void {
  const timer = setTimeout(() => end(timeoutError('connect timeout')), CONNECT_TIMEOUT_MS).unref();
  const stop = (): void => clearTimeout(timer);
  socket.once(isSecure ? 'secureConnect' : 'connect', stop);
  socket.once('close', stop);
}
