import type { Duplex } from 'node:stream';
import { BuildError, Code, errno } from '../base/errors.ts';
import { abortable } from '../base/shared-task.ts';
import { systemErrorText } from '../sys/errno.ts';
import { handshakeProblem } from './tls-error.ts';
import type { ConnectOptions, TlsFiles } from './types.ts';

export const DEFAULT_ADDRESS = 'unix:///run/buildkit/buildkitd.sock';

const PEM = '-----BEGIN';

/** A byte stream to a daemon, and the `:authority` its calls should name. */
export interface Dialed {
  readonly stream: Duplex;
  readonly authority: string;
}

/** Opens the byte stream that an address stands for (FEATURES L2). @throws BuildError Unavailable when nobody answers. */
export async function dial(address: string, options: ConnectOptions, signal: AbortSignal): Promise<Dialed> {
  const at = address.indexOf('://');
  if (at < 0)
    throw new BuildError(`invalid address ${address}: it has no scheme, you meant unix://${address} ?`);
  const scheme = address.slice(0, at);
  const rest = address.slice(at + 3);
  if (options.dial)
    return { stream: (await options.dial(address, signal)) as Duplex, authority: 'localhost' };
  if (scheme === 'unix') return { stream: await dialUnix(rest, signal), authority: 'localhost' };
  if (scheme === 'tcp') return await dialTcp(rest, options.tls, signal);
  const { helperCommand } = await import('./helpers.ts');
  const command = helperCommand(address);
  const { dialCommand } = await import('./command-stream.ts');
  return { stream: dialCommand(command), authority: 'localhost' };
}

async function dialUnix(path: string, signal: AbortSignal): Promise<Duplex> {
  const { connect } = await import('node:net');
  return await established(connect({ path }), 'connect', `dial unix ${path}`, signal);
}

async function dialTcp(rest: string, tls: TlsFiles | undefined, signal: AbortSignal): Promise<Dialed> {
  let url: URL;
  try {
    url = new URL(`tcp://${rest}`);
  } catch (error) {
    throw new BuildError(`invalid address tcp://${rest}`, { cause: error });
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = Number(url.port);
  if (!port) throw new BuildError(`invalid address tcp://${rest}: it has no port`);
  if (!tls) {
    const { connect } = await import('node:net');
    const socket = connect({ host, port, noDelay: true });
    return { stream: await established(socket, 'connect', `dial tcp ${rest}`, signal), authority: url.host };
  }
  const { checkServerIdentity, connect } = await import('node:tls');
  const { isIP } = await import('node:net');
  const files = readTls(tls, await import('node:fs'));
  const serverName = tls.serverName || host;
  const socket = connect({
    host,
    port,
    ALPNProtocols: ['h2'],
    ...files,
    // An address cannot be asked for by name, but the certificate must be good for it all the same.
    ...(isIP(serverName) ? {} : { servername: serverName }),
    checkServerIdentity: (_host, certificate) => checkServerIdentity(serverName, certificate),
  });
  return {
    stream: await established(socket, 'secureConnect', `dial tcp ${rest}`, signal),
    authority: serverName,
  };
}

function readTls(tls: TlsFiles, fs: typeof import('node:fs')) {
  const read = (path: string, failure: string): string => {
    if (path.includes(PEM)) return path;
    try {
      return fs.readFileSync(path, 'utf8');
    } catch (error) {
      throw new BuildError(`${failure}: ${systemErrorText(error)}`, { cause: error });
    }
  };
  const { ca, cert, key } = tls;
  if ((cert === undefined) !== (key === undefined))
    throw new BuildError('could not read certificate/key: both are needed');
  return {
    ...(ca === undefined ? {} : { ca: read(ca, 'could not read ca certificate') }),
    ...(cert === undefined || key === undefined
      ? {}
      : {
          cert: read(cert, 'could not read certificate/key'),
          key: read(key, 'could not read certificate/key'),
        }),
  };
}

async function established<S extends Duplex>(
  socket: S,
  event: string,
  what: string,
  signal: AbortSignal,
): Promise<S> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once(event, resolve);
  socket.once('error', reject);
  try {
    await abortable(promise, signal);
  } catch (error) {
    socket.destroy();
    promise.catch(() => {});
    socket.on('error', () => {}); // one that comes after giving up
    if (signal.aborted) throw error;
    throw unreachable(what, error);
  }
  socket.off('error', reject);
  return socket;
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ECONNREFUSED: 'connection refused',
  EACCES: 'permission denied',
};

function unreachable(what: string, error: unknown): BuildError {
  const handshake = handshakeProblem(error);
  const reason = REASONS[errno(error) ?? ''] ?? BuildError.from(error).message;
  const text =
    handshake === undefined
      ? `Error while dialing: ${what}: connect: ${reason}`
      : `authentication handshake failed: ${handshake}`;
  return new BuildError(`connection error: desc = "transport: ${text}"`, {
    code: Code.unavailable,
    cause: error,
  });
}
