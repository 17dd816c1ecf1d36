import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BuildError } from '../base/errors.ts';
import type { ListenAddress } from './listen-address.ts';
import { dumpLines, dumpState, type StateSources } from './state-dump.ts';

/** Connections that may be open at once. */
const MAX_CONNECTIONS = 16;
const PATHS = ['/debug/solver'];

export interface DebugServer extends AsyncDisposable {
  /** As the log tells it. */
  readonly address: string;
}

/** Serves the state of the builds over http, as text or (`Accept: application/json`) as JSON. */
export async function serveDebug(address: ListenAddress, sources: StateSources): Promise<DebugServer> {
  const server = createServer((request, response) => answer(request, response, sources));
  server.maxConnections = MAX_CONNECTIONS;
  const options =
    address.kind === 'tcp' ? { host: address.host, port: address.port } : { path: pathOf(address) };
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(BuildError.wrap(error, `failed to listen on ${address.text}`)));
    server.listen(options, resolve);
  });
  const bound = server.address() as AddressInfo | string;
  return {
    address: typeof bound === 'string' ? bound : `${bound.address}:${bound.port}`,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function pathOf(address: ListenAddress): string {
  return address.kind === 'unix' ? address.path : '';
}

function answer(request: IncomingMessage, response: ServerResponse, sources: StateSources): void {
  const [pathname] = (request.url ?? '/').split('?');
  const send = (status: number, type: string, text: string): void => {
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
    response.end(text);
  };
  if (request.method !== 'GET') {
    send(405, 'text/plain', 'only GET is answered\n');
    return;
  }
  if (pathname !== '/debug/solver') {
    send(404, 'text/plain', `not served: ${pathname}; there is ${PATHS.join(', ')}\n`);
    return;
  }
  const dump = dumpState(sources);
  if (request.headers.accept?.includes('application/json'))
    send(200, 'application/json', `${JSON.stringify(dump)}\n`);
  else send(200, 'text/plain; charset=utf-8', `${dumpLines(dump).join('\n')}\n`);
}
