import { connect, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { BuildError, invalidArgument } from '../base/errors.ts';
import type { CommandContext } from './context.ts';

/** `buildctl dial-stdio`: this process's stdio is a connection to the daemon (FEATURES L19). */
export async function runDialStdio({ flags, signal }: CommandContext): Promise<void> {
  const address = flags.string('addr');
  const match = /^([^:]*):\/\/(.*)$/.exec(address);
  if (!match) throw invalidArgument(`invalid address ${address}`);
  if (match[1] !== 'unix')
    throw invalidArgument(`invalid address ${address} (expected unix://, got ${match[1]}://)`);
  const socket = await open(match[2]!, flags.number('timeout') * 1000, signal);
  // The daemon's end is the end; the input's end is only passed on.
  const out = pipeline(socket, process.stdout, { signal });
  const into = pipeline(process.stdin, socket, { signal });
  into.catch(() => socket.destroy());
  await out;
  process.stdin.destroy();
}

async function open(path: string, timeoutMs: number, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once('connect', resolve);
  socket.once('error', reject);
  const timer = timeoutMs > 0 ? setTimeout(() => reject(new Error('i/o timeout')), timeoutMs) : undefined;
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await promise;
    return socket;
  } catch (error) {
    socket.destroy();
    throw BuildError.wrap(error, `dial unix ${path}`);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    socket.off('error', reject);
  }
}
