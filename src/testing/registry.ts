import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const BINARY = '/usr/bin/docker-registry';
const START_TRIES = 100;

/** True where Debian's docker-registry is installed. */
export const haveRegistry = existsSync(BINARY);

export interface TestServer extends AsyncDisposable {
  /** `127.0.0.1:port` */
  readonly host: string;
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A real registry with an empty store in a temporary folder. */
export async function startRegistry(): Promise<TestServer> {
  const dir = await mkdtemp(join(tmpdir(), 'registry-'));
  const host = `127.0.0.1:${await freePort()}`;
  const config = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(dir, 'data') }, delete: { enabled: true } },
    http: { addr: host },
  };
  await writeFile(join(dir, 'config.yml'), JSON.stringify(config));
  const child = spawn(BINARY, ['serve', join(dir, 'config.yml')], { stdio: 'ignore' });
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await rm(dir, { recursive: true, force: true });
  };
  for (let tries = 0; !(await answers(host)); tries++) {
    if (tries > START_TRIES || child.exitCode !== null) {
      await stop();
      throw new Error('docker-registry did not start');
    }
    await sleep(50);
  }
  return { host, [Symbol.asyncDispose]: stop };
}

async function answers(host: string): Promise<boolean> {
  try {
    return (await fetch(`http://${host}/v2/`)).ok;
  } catch {
    return false; // not up yet
  }
}

/** What a faulty server does with a request instead of passing it on. */
export type Fault =
  | {
      readonly status: number;
      readonly headers?: Record<string, string>;
      readonly body?: string | Uint8Array;
    }
  /** The answer's connection is cut after so many bytes of its body. */
  | { readonly cutAfter: number }
  /** The connection is closed without an answer. */
  | { readonly hangUp: true }
  /** Never answers. */
  | { readonly silent: true }
  /** Answered at once; the request's body is not read. */
  | { readonly earlyStatus: number }
  /** The request is passed on without its Range header. */
  | { readonly noRange: true }
  /** The request is passed on so much later. */
  | { readonly delayMs: number }
  /** The connection ends, on both sides, after so many bytes of the request's body. */
  | { readonly cutUploadAfter: number };

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
}

export interface FaultyServer extends TestServer {
  /** Every request so far. */
  readonly seen: readonly SeenRequest[];
}

/** A server in front of `target` (none: every request must be a fault) that fails as `fault` says. */
export async function startFaulty(
  target: string | undefined,
  fault: (request: SeenRequest, count: number) => Fault | undefined,
  onConnection: () => void = () => {},
): Promise<FaultyServer> {
  const seen: SeenRequest[] = [];
  const server = createServer((incoming, outgoing) => {
    const entry = { method: incoming.method ?? '', url: incoming.url ?? '', headers: incoming.headers };
    seen.push(entry);
    const action = fault(entry, seen.length);
    if (action && 'status' in action) answer(incoming, outgoing, action);
    else if (action && 'earlyStatus' in action) outgoing.writeHead(action.earlyStatus).end();
    else if (action && 'hangUp' in action) incoming.socket.destroy();
    else if (action && 'silent' in action) incoming.resume();
    else if (target === undefined) answer(incoming, outgoing, { status: 404 });
    else if (action && 'delayMs' in action)
      setTimeout(() => pass(incoming, outgoing, target, undefined), action.delayMs);
    else pass(incoming, outgoing, target, action);
  });
  server.on('connection', onConnection);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    [Symbol.asyncDispose]: () => stopServer(server),
  };
}

async function stopServer(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

function answer(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  action: Extract<Fault, { status: number }>,
): void {
  incoming.resume();
  incoming.once('end', () => {
    outgoing.writeHead(action.status, action.headers);
    outgoing.end(action.body ?? '');
  });
}

type PassedFault = Extract<Fault, { cutAfter: number } | { noRange: true } | { cutUploadAfter: number }>;

function pass(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  target: string,
  action: PassedFault | undefined,
): void {
  const headers = { ...incoming.headers };
  if (action && 'noRange' in action) delete headers.range;
  const [host, port] = target.split(':');
  const options = { host, port, method: incoming.method, path: incoming.url, headers, agent: false } as const;
  const onward = request(options, (response) => {
    outgoing.writeHead(response.statusCode ?? 500, response.headers);
    if (!action || !('cutAfter' in action)) {
      response.pipe(outgoing);
      return;
    }
    void cut(response, outgoing, action.cutAfter);
  });
  onward.on('error', () => outgoing.destroy());
  if (action && 'cutUploadAfter' in action) void cutUpload(incoming, onward, action.cutUploadAfter);
  else incoming.pipe(onward);
}

async function cutUpload(from: IncomingMessage, to: ClientRequest, bytes: number): Promise<void> {
  let left = bytes;
  const { socket } = from;
  to.on('error', () => {}); // it is cut
  for await (const chunk of from) {
    const part = (chunk as Buffer).subarray(0, left);
    left -= part.length;
    await new Promise<void>((resolve) => to.write(part, () => resolve()));
    if (left === 0) break;
  }
  to.destroy();
  socket.destroy();
}

async function cut(from: IncomingMessage, to: ServerResponse, bytes: number): Promise<void> {
  let left = bytes;
  for await (const chunk of from) {
    const part = (chunk as Buffer).subarray(0, left);
    left -= part.length;
    await new Promise<void>((resolve) => to.write(part, () => resolve()));
    if (left === 0) break;
  }
  to.destroy();
}
