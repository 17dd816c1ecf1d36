import { chmodSync, chownSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { Metadata } from '../../rpc/metadata.ts';
import { duplexOf, joinStreams } from '../../rpc/tunnel.ts';
import type { Session } from '../manager.ts';
import { DEFAULT_SSH_ID, SSH_ID, SSHDefinition } from '../wire.ts';

const SOCKET_NAME = 'ssh_auth_sock';

/** @throws BuildError when the client does not forward an agent or socket called `id`. */
export async function checkSshAgent(session: Session, id: string, signal: AbortSignal): Promise<void> {
  await session.client(SSHDefinition).checkAgent({ ID: id === '' ? DEFAULT_SSH_ID : id }, { signal });
}

export interface SshSocket {
  readonly path: string;
  /** Cuts its connections and removes it. */
  close(): Promise<void>;
}

/** A unix socket whose connections are carried to the client's agent, one call each (FEATURES C20). */
export async function openSshSocket(
  session: Session,
  options: {
    readonly id: string;
    readonly uid: number;
    readonly gid: number;
    readonly mode: number;
    /** Parent of the socket's own temporary directory. */
    readonly tmpDir: string;
  },
  signal: AbortSignal,
): Promise<SshSocket> {
  const dir = await mkdtemp(join(options.tmpDir, 'ssh-'));
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    forward(session, options.id, socket, signal);
  });
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise<void>((done) => server.close(() => done()));
    await rm(dir, { recursive: true, force: true });
  };
  try {
    chmodSync(dir, 0o711);
    const path = join(dir, SOCKET_NAME);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, () => {
        server.off('error', reject);
        server.on('error', () => {}); // a failed accept concerns that connection only
        resolve();
      });
    });
    chownSync(path, options.uid, options.gid);
    chmodSync(path, options.mode & 0o777);
    return { path, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function forward(session: Session, id: string, socket: Socket, signal: AbortSignal): void {
  const metadata = Metadata.of({ [SSH_ID]: id === '' ? DEFAULT_SSH_ID : id });
  try {
    const tunnel = duplexOf(session.client(SSHDefinition).forwardAgent({ metadata, signal }));
    tunnel.on('error', () => {}); // joinStreams sees it
    joinStreams(socket, tunnel).catch(() => {});
  } catch {
    socket.destroy(); // the session has ended
  }
}
