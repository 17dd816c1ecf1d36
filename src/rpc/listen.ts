import { createServer as createTcpServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import type { GrpcServer } from './server.ts';
import type { Peer } from './types.ts';

export type ListenTarget =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** An already bound socket, as systemd passes it. */
  | { readonly kind: 'fd'; readonly fd: number };

/** PEM texts. With `ca` every client must present a certificate that it signed. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

export interface Listener {
  /** `unix://path` or `tcp://host:port` with the port really bound. */
  readonly address: string;
  /** Stops accepting; connections stay. */
  close(): Promise<void>;
}

/** Accepts connections for `server`. The caller removes a stale unix socket first and sets its owner and mode after. */
export async function listenGrpc(
  server: GrpcServer,
  target: ListenTarget,
  tls?: TlsIdentity,
): Promise<Listener> {
  const accept = (socket: Socket): void => {
    socket.setNoDelay(true);
    server.serve(socket, peerOf(socket, target, tls !== undefined));
  };
  const listener: NetServer = tls ? createTlsServer(tlsOptions(tls), accept) : createTcpServer(accept);
  if (tls) listener.on('tlsClientError', () => {}); // a client with a bad certificate has been refused already
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(listenOptions(target), () => {
      listener.off('error', reject);
      listener.on('error', () => {}); // a failed accept must not end the daemon
      resolve();
    });
  });
  return {
    address: addressOf(listener, target),
    close: () => new Promise<void>((resolve) => listener.close(() => resolve())),
  };
}

function tlsOptions(tls: TlsIdentity): TlsOptions {
  return {
    cert: tls.cert,
    key: tls.key,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.2',
    ...(tls.ca === undefined ? {} : { ca: tls.ca, requestCert: true, rejectUnauthorized: true }),
  };
}

function listenOptions(target: ListenTarget) {
  if (target.kind === 'unix') return { path: target.path };
  if (target.kind === 'fd') return { fd: target.fd };
  return { host: target.host, port: target.port };
}

function addressOf(listener: NetServer, target: ListenTarget): string {
  if (target.kind === 'unix') return `unix://${target.path}`;
  const bound = listener.address();
  if (bound === null || typeof bound === 'string') return `unix://${bound ?? ''}`;
  const host = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  return `tcp://${host}:${bound.port}`;
}

function peerOf(socket: Socket, target: ListenTarget, secure: boolean): Peer {
  if (target.kind === 'unix' || socket.remoteAddress === undefined) return { kind: 'unix', address: '@' };
  return { kind: secure ? 'tls' : 'tcp', address: `${socket.remoteAddress}:${socket.remotePort ?? 0}` };
}
