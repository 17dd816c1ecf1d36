import { duplexPair } from 'node:stream';
import { ControlDefinition } from '../pb/control.ts';
import { connectGrpc } from '../rpc/client.ts';
import { createGrpcServer, type RegisteredService, service } from '../rpc/server.ts';
import { duplexOf } from '../rpc/tunnel.ts';
import { SessionHost } from './host/host.ts';
import { type Session, SessionManager } from './manager.ts';

/**
 * For tests: a client that offers `services`, connected to a session manager through a real Control.Session
 * call, for as long as `work` runs.
 */
export async function withSession(
  services: readonly RegisteredService[],
  work: (session: Session, signal: AbortSignal, manager: SessionManager) => Promise<void>,
): Promise<void> {
  const manager = new SessionManager();
  const abort = new AbortController();
  const server = createGrpcServer({
    services: [
      service(ControlDefinition, {
        session: (stream, call) => manager.handle(duplexOf(stream), call.metadata, call.signal),
      }),
    ],
  });
  const [near, far] = duplexPair();
  server.serve(far);
  const channel = connectGrpc(near);
  const host = new SessionHost({ services, sharedKey: 'shared' });
  const running = host.run(channel, abort.signal);
  try {
    const session = await manager.get(`prefix:${host.id}`, AbortSignal.timeout(2000));
    await work(session, AbortSignal.timeout(20_000), manager);
  } finally {
    abort.abort();
    await running;
    channel.destroy();
    await server.close({ graceMs: 100 });
  }
}
