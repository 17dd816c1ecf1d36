import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, duplexPair } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError, Code } from '../base/errors.ts';
import { ContentDefinition, WriteAction } from '../pb/content.ts';
import { type BytesMessage, ControlDefinition, type SolveRequest, type VertexLog } from '../pb/control.ts';
import { HealthDefinition } from '../pb/health.ts';
import { connectGrpc, type GrpcChannel } from './client.ts';
import { healthService } from './health.ts';
import { type Listener, listenGrpc } from './listen.ts';
import { Metadata } from './metadata.ts';
import { createGrpcServer, type GrpcServer, service } from './server.ts';
import { duplexOf } from './tunnel.ts';
import type { MessageStream } from './types.ts';

const seen: { metadata?: Metadata; aborted: string[]; sent: number } = { aborted: [], sent: 0 };

const control = service(ControlDefinition, {
  info: async (_request, call) => {
    seen.metadata = call.metadata;
    return { buildkitVersion: { package: 'p', version: 'v1', revision: 'r', dockerfileVersion: '' } };
  },
  solve: async (request: SolveRequest, call) => {
    if (request.Ref === 'echo') return { ExporterResponse: request.FrontendAttrs };
    if (request.Ref === 'empty') return { ExporterResponse: {} };
    if (request.Ref === 'hang') {
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve, { once: true }));
      seen.aborted.push(BuildError.from(call.signal.reason).message);
      throw call.signal.reason;
    }
    throw new BuildError('snow ☃ 100% broken\nline', {
      code: Code.notFound,
      details: [
        { type: 'errdefs.Vertex', value: { digest: 'sha256:aa' } },
        { type: 'errdefs.Source', value: { ranges: [{ start: { line: 3 }, end: { line: 3 } }] } },
        { typeUrl: 'example.com/other', bytes: new Uint8Array([1, 2, 255]) },
      ],
    });
  },
  status: async function* (request) {
    const msg = Buffer.alloc(Number(request.Ref.split('x')[1] ?? 0), 7);
    for (let i = 0; i < Number(request.Ref.split('x')[0]); i++) {
      seen.sent = i + 1;
      const log: VertexLog = { vertex: String(i), timestamp: undefined, stream: 1n, msg };
      yield { vertexes: [], statuses: [], logs: [log], warnings: [] };
    }
  },
  session: async (stream, call) => {
    call.setHeader('x-hello', 'there');
    call.setTrailer('x-bye', 'now');
    if (call.metadata.get('mode') === 'early') return;
    if (call.metadata.get('mode') === 'tunnel') {
      const inner = connectGrpc(duplexOf(stream), { authority: 'localhost' });
      const reply = await inner.client(HealthDefinition).check({ service: '' });
      await inner
        .client(ControlDefinition)
        .solve({ ...solveRequest('echo'), FrontendAttrs: { s: `${reply.status}` } });
      inner.close();
      await inner.closed;
      return;
    }
    for await (const message of stream) await stream.send(message);
  },
});

const content = service(ContentDefinition, {});

function solveRequest(Ref: string): SolveRequest {
  return ControlDefinition.methods.solve.requestType.fromPartial({ Ref });
}

describe('gRPC over a unix socket', () => {
  let dir: string;
  let server: GrpcServer;
  let listener: Listener;
  let channel: GrpcChannel;
  let socketPath: string;
  const client = () => channel.client(ControlDefinition);

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rpc-'));
    socketPath = join(dir, 's.sock');
    server = createGrpcServer({ services: [control, content, healthService([ControlDefinition.fullName])] });
    listener = await listenGrpc(server, { kind: 'unix', path: socketPath });
    channel = connectGrpc(connect(socketPath));
  });
  after(async () => {
    channel.close();
    await channel.closed;
    await listener.close();
    await server.close();
    await rm(dir, { recursive: true });
  });

  test('unary, with an empty answer too', async () => {
    assert.equal((await client().info({})).buildkitVersion?.version, 'v1');
    assert.deepEqual(await client().solve(solveRequest('empty')), { ExporterResponse: {} });
  });

  test('5,000 metadata values both ways keep their order', async () => {
    const values = Array.from({ length: 5000 }, (_, i) => `pattern-${i}`);
    await client().info({}, { metadata: Metadata.of({ 'exclude-patterns': values, other: 'a, b' }) });
    assert.deepEqual(seen.metadata?.getAll('exclude-patterns'), values);
    assert.equal(seen.metadata?.get('other'), 'a, b');
  });

  test('errors keep code, text and details, unknown ones as bytes', async () => {
    await assert.rejects(client().solve(solveRequest('fail')), (error: BuildError) => {
      assert.equal(error.code, Code.notFound);
      assert.equal(error.message, 'snow ☃ 100% broken\nline');
      assert.deepEqual(
        error.details.map((d) => ('type' in d ? d : { typeUrl: d.typeUrl, bytes: [...d.bytes] })),
        [
          { typeUrl: 'example.com/other', bytes: [1, 2, 255] },
          { type: 'errdefs.Source', value: { ranges: [{ start: { line: 3 }, end: { line: 3 } }] } },
          { type: 'errdefs.Vertex', value: { digest: 'sha256:aa' } },
        ],
      );
      return true;
    });
  });

  test('unknown service, method and missing handler are Unimplemented', async () => {
    await assert.rejects(client().diskUsage({ filter: [], ageLimit: 0n }), {
      code: Code.unimplemented,
      message: 'method DiskUsage not implemented',
    });
    const odd = channel.client({ fullName: 'no.Such', methods: { info: ControlDefinition.methods.info } });
    await assert.rejects(odd.info({}), { code: Code.unimplemented, message: 'unknown service no.Such' });
    const other = channel.client({
      fullName: 'moby.buildkit.v1.Control',
      methods: { info: { ...ControlDefinition.methods.info, name: 'Nope' } },
    });
    await assert.rejects(other.info({}), {
      message: 'unknown method Nope for service moby.buildkit.v1.Control',
    });
  });

  test('cancel and deadline reach the handler', async () => {
    seen.aborted.length = 0;
    const abort = new AbortController();
    const running = client().solve(solveRequest('hang'), { signal: abort.signal });
    await sleep(50);
    abort.abort();
    await assert.rejects(running, { code: Code.canceled });
    await assert.rejects(client().solve(solveRequest('hang'), { timeoutMs: 60 }), {
      code: Code.deadlineExceeded,
    });
    for (let i = 0; i < 50 && seen.aborted.length < 2; i++) await sleep(10);
    assert.equal(seen.aborted[0], 'context canceled');
    assert.match(seen.aborted[1] ?? '', /context (deadline exceeded|canceled)/);
  });

  test('server stream: order, backpressure, and leaving early cancels', async () => {
    let n = 0;
    for await (const m of client().status({ Ref: '2000x10' })) assert.equal(m.logs[0]?.vertex, String(n++));
    assert.equal(n, 2000);
    for await (const m of client().status({ Ref: '100x1000000' })) {
      assert.equal(m.logs[0]?.msg.length, 1_000_000);
      await sleep(100);
      break;
    }
    assert.ok(seen.sent < 20, `the server sent ${seen.sent} MB although nobody read`);
  });

  test('bidi: echo of messages of every size, half close, early end, headers', async () => {
    let hello: string | undefined;
    const echo = client().session({ onHeaders: (m) => (hello = m.get('x-hello')) });
    const sizes = [0, 1, 5, 4095, 4096, 16384, 16385, 100_000, 5_000_000, 0, 3];
    const sending = (async () => {
      for (const size of sizes) await echo.send({ data: Buffer.alloc(size, size % 251) });
      echo.end();
    })();
    const got: number[] = [];
    for await (const m of echo) {
      assert.ok(m.data.every((b) => b === m.data.length % 251));
      got.push(m.data.length);
    }
    await sending;
    assert.deepEqual(got, sizes);
    assert.equal(hello, 'there');
    const early = client().session({ metadata: Metadata.of({ mode: 'early' }) });
    assert.equal(await early.receive(), undefined);
  });

  test('a message above 16 MiB is refused on both sides', async () => {
    const echo = client().session();
    await assert.rejects(echo.send({ data: Buffer.alloc(16 << 20) }), { code: Code.resourceExhausted });
    echo.cancel();
    const call = client().session();
    call.cancel();
    await assert.rejects(call.receive(), { code: Code.canceled });
  });

  test('a tunnel: HTTP/2 inside the messages of a call', async () => {
    const calls: string[] = [];
    const inner = createGrpcServer({
      services: [
        healthService([]),
        service(ControlDefinition, {
          solve: async (request) => {
            calls.push(request.FrontendAttrs.s ?? '');
            return { ExporterResponse: {} };
          },
        }),
      ],
    });
    const outer = client().session({ metadata: Metadata.of({ mode: 'tunnel' }) });
    const connection = inner.serve(duplexOf(outer as MessageStream<BytesMessage, BytesMessage>));
    await connection.closed;
    assert.deepEqual(calls, ['1']);
  });

  test('a lost connection fails running calls with Unavailable', async () => {
    const socket: Duplex = connect(socketPath);
    const other = connectGrpc(socket);
    const running = other.client(ControlDefinition).solve(solveRequest('hang'));
    await other.client(ControlDefinition).info({});
    socket.destroy();
    await assert.rejects(running, { code: Code.unavailable });
    await other.closed;
    assert.equal(other.isOpen, false);
  });

  test('garbage instead of HTTP/2 ends that connection only', async () => {
    const socket = connect(socketPath);
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(10));
    socket.resume();
    await once(socket, 'close');
    assert.equal((await client().info({})).buildkitVersion?.version, 'v1');
  });
});

test('an in-memory duplex carries calls; close waits for running ones', async () => {
  const [a, b] = duplexPair();
  const server = createGrpcServer({ services: [control] });
  const connection = server.serve(a);
  const channel = connectGrpc(b);
  const stream = channel.client(ControlDefinition).status({ Ref: '3x5' });
  let n = 0;
  for await (const _ of stream) n++;
  assert.equal(n, 3);
  const closing = server.close({ graceMs: 1000 });
  await closing;
  await connection.closed;
  await channel.closed;
  assert.equal(WriteAction.COMMIT, 2);
});
