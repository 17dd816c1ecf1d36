import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CHUNK_BYTES, giveBackChunk } from '../base/chunks.ts';
import { DirectConnections } from './direct.ts';
import type { HttpResponse } from './response.ts';

/** A server that answers each request with what `answer` writes; `requests` has all that were made. */
async function server(answer: (socket: Socket, request: number, connection: number) => void) {
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const tcp = createServer((socket) => {
    const connection = connections++;
    sockets.add(socket);
    socket.on('error', () => {});
    let text = '';
    socket.on('data', (data) => {
      text += data.toString('latin1');
      while (text.includes('\r\n\r\n')) {
        const end = text.indexOf('\r\n\r\n');
        requests.push(text.slice(0, end));
        text = text.slice(end + 4);
        answer(socket, requests.length - 1, connection);
      }
    });
  }).listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  const direct = new DirectConnections();
  const url = new URL(`http://127.0.0.1:${(tcp.address() as AddressInfo).port}/v2/a/blobs/x?ns=y`);
  return {
    requests,
    sockets,
    direct,
    get connections() {
      return connections;
    },
    get: (signal = AbortSignal.timeout(10_000), headers: Record<string, string> = {}) =>
      direct.get({ url, headers, tls: undefined, signal }),
    [Symbol.asyncDispose]: async () => {
      direct.close();
      for (const socket of sockets) socket.destroy();
      tcp.close();
      await once(tcp, 'close');
    },
  };
}

const bytes = (size: number): Buffer =>
  Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 7) ^ (i >> 8)));

async function bodyOf(response: HttpResponse): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response.body()) {
    chunks.push(Buffer.from(chunk)); // a copy: the memory is used again
    giveBackChunk(chunk);
  }
  return Buffer.concat(chunks);
}

const head = (length: number, more = ''): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n${more}\r\n`;

test('bodies of all sizes, over one connection', async () => {
  const sizes = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 17, 3];
  await using one = await server((socket, i) => {
    socket.write(head(sizes[i]!, 'X-Two: a\r\nx-two:b \r\n'));
    socket.write(bytes(sizes[i]!));
  });
  for (const size of sizes) {
    const response = await one.get(undefined, { accept: '*/*' });
    assert.equal(response.status, 200);
    assert.equal(response.contentLength, size);
    assert.deepEqual(response.headers('x-Two'), ['a', 'b']);
    assert.equal(response.header('X-two'), 'a, b');
    assert.ok((await bodyOf(response)).equals(bytes(size)), `${size}`);
  }
  assert.equal(one.connections, 1);
  const [first] = one.requests;
  assert.equal(
    first,
    `GET /v2/a/blobs/x?ns=y HTTP/1.1\r\nhost: ${first!.match(/host: (.*)\r/)![1]}\r\naccept: */*\r\nconnection: keep-alive`,
  );
});

test('a connection that is used often stays as it is', async (t) => {
  const warned = t.mock.method(process, 'emitWarning', () => {}).mock;
  await using one = await server((socket) => void socket.write(`${head(1)}a`));
  for (let i = 0; i < 30; i++) await bodyOf(await one.get());
  assert.equal(one.connections, 1);
  assert.equal(warned.callCount(), 0);
});

test('an answer that comes in pieces, after another that is none yet', async () => {
  const text = Buffer.from(`HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n${head(5)}hello`);
  await using one = await server(async (socket) => {
    for (const byte of text) {
      socket.write(Buffer.from([byte]));
      await sleep(0);
    }
  });
  assert.equal((await bodyOf(await one.get())).toString(), 'hello');
  assert.equal((await bodyOf(await one.get())).toString(), 'hello');
  assert.equal(one.connections, 1);
});

test('bodies in chunks, and until the connection ends', async () => {
  const chunked = 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n';
  const statuses = [200, 404, 307, 401, 500, 200];
  await using one = await server(async (socket, i) => {
    const text = `HTTP/1.1 ${statuses[i]} x\r\nLocation: /y\r\n${chunked}`;
    if (i > 0) return void socket.write(text);
    for (const byte of text) {
      socket.write(byte);
      await sleep(0);
    }
  });
  for (const status of statuses) {
    const response = await one.get();
    assert.deepEqual([response.status, response.header('location')], [status, '/y']);
    assert.equal((await bodyOf(response)).toString(), 'abcd');
  }
  assert.equal(one.connections, 1);
  await using closing = await server((socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    socket.end(bytes(CHUNK_BYTES + 5));
  });
  for (let i = 0; i < 2; i++) assert.ok((await bodyOf(await closing.get())).equals(bytes(CHUNK_BYTES + 5)));
  assert.equal(closing.connections, 2);
});

test('a large body in chunks comes as fast as it is taken, and one that is cut off is an error', async () => {
  const size = 32 * CHUNK_BYTES;
  await using one = await server((socket, i) => {
    socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${size.toString(16)}\r\n`);
    socket.write(bytes(size));
    if (i > 0) socket.end();
    else socket.write('\r\n0\r\n\r\n');
  });
  const response = await one.get();
  await sleep(300);
  assert.ok([...one.sockets][0]!.writableLength > size / 4);
  assert.ok((await bodyOf(response)).equals(bytes(size)));
  await assert.rejects(bodyOf(await one.get()), { code: 'ECONNRESET' });
});

test('what is no answer is refused at once', async () => {
  const bad = [
    'HTTP/1.1 101 Switching\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n',
    'HTTP/2.0 200 OK\r\n\r\n',
    'no http',
    'HTTP/1.1 200 OK\nContent-Length: 1\n\n1',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1',
    'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n folded\r\n\r\n1',
    `HTTP/1.1 200 OK\r\nx: ${'x'.repeat(70_000)}\r\n\r\n`,
    `HTTP/1.1 100 Go on\r\nx: ${'x'.repeat(60_000)}\r\n\r\n`.repeat(6),
  ];
  for (const text of bad) {
    await using one = await server((socket) => void socket.write(text));
    await assert.rejects(
      one.get(),
      /^BuildError: (malformed answer of a server|a server (sends no answer|changes to))/,
      text.slice(0, 60),
    );
    assert.equal(one.connections, 1);
  }
  await using one = await server(
    (socket) => void socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n'),
  );
  const chunks = (async () => bodyOf(await one.get()))();
  await assert.rejects(chunks, /malformed chunks/);
});

test('a connection is not used again when it may not, or something came that nobody asked for', async () => {
  const answers = [
    `${head(1, 'Connection: close\r\n')}a`,
    'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nb',
    `${head(1)}c and more`,
    `${head(1)}d`,
  ];
  await using one = await server((socket, i) => {
    socket.write(answers[i]!);
    if (i === 3) setTimeout(() => socket.write('late'), 20);
  });
  for (const text of ['a', 'b', 'c', 'd']) assert.equal((await bodyOf(await one.get())).toString(), text);
  assert.equal(one.connections, 4);
});

test('a kept connection that its server has closed is replaced', async () => {
  await using one = await server((socket, i, connection) => {
    if (connection === 0 && i > 0) socket.destroy();
    else socket.write(`${head(2)}ok`);
  });
  assert.equal((await bodyOf(await one.get())).toString(), 'ok');
  assert.equal((await bodyOf(await one.get())).toString(), 'ok');
  assert.equal(one.connections, 2);
});

test('a body that is cut off gives what came, and an error', async () => {
  await using one = await server((socket) => {
    socket.write(head(CHUNK_BYTES * 2));
    socket.end(bytes(CHUNK_BYTES + 100));
  });
  const response = await one.get();
  let got = 0;
  const reading = (async () => {
    for await (const chunk of response.body()) got += chunk.length;
  })();
  await assert.rejects(reading, { code: 'ECONNRESET' });
  assert.equal(got, CHUNK_BYTES + 100);
  await using refusing = await server((socket) => void socket.destroy());
  await assert.rejects(refusing.get(), { code: 'ECONNRESET' });
});

test('nothing is read ahead of a slow reader but a few chunks', async () => {
  const size = 64 * CHUNK_BYTES;
  await using one = await server((socket) => {
    socket.write(head(size));
    socket.write(bytes(size));
  });
  const response = await one.get();
  await sleep(300);
  const [socket] = one.sockets;
  assert.ok(socket!.writableLength > size / 4, `${socket!.writableLength} bytes wait at the server`);
  assert.ok((await bodyOf(response)).equals(bytes(size)));
});

test('aborting ends it, before the answer and within', async () => {
  await using one = await server((socket, i) => {
    if (i > 0) socket.write(`${head(10)}12345`);
  });
  const cancel = new AbortController();
  const asked = one.get(cancel.signal);
  setTimeout(() => cancel.abort(new Error('not wanted')), 20);
  await assert.rejects(asked, { message: 'not wanted' });
  const again = new AbortController();
  const response = await one.get(again.signal);
  setTimeout(() => again.abort(new Error('enough')), 20);
  await assert.rejects(bodyOf(response), { message: 'enough' });
  await assert.rejects(one.get(AbortSignal.abort(new Error('never'))), { message: 'never' });
});

test('a body that nobody wants: a short one is read, a long one ends the connection', async () => {
  const sizes = [10, CHUNK_BYTES + 1, 1];
  await using one = await server((socket, i) => {
    if (i === sizes.length) socket.write('HTTP/1.1 200 OK\r\n\r\n');
    else socket.write(head(sizes[i]!));
    socket.write(bytes(sizes[i] ?? 4 * CHUNK_BYTES));
  });
  await (await one.get()).discard();
  await (await one.get()).discard();
  assert.equal(one.connections, 1);
  await bodyOf(await one.get());
  assert.equal(one.connections, 2);
  // One that does not say how long it is, and never ends.
  await (await one.get()).discard();
});

test('a header cannot bring another line into the request', async () => {
  await using one = await server((socket) => void socket.write(head(0)));
  await assert.rejects(
    one.get(undefined, { authorization: 'Bearer a\r\nx: y' }),
    /characters that it may not have/,
  );
  assert.equal(one.requests.length, 0);
});
