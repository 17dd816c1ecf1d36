import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { speaksPlainHttp } from './probe.ts';

async function asked(server: Server): Promise<boolean> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    return await speaksPlainHttp(new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}/v2/`));
  } finally {
    server.close();
  }
}

test('a server without TLS is told from one with it, and from none', async () => {
  assert.equal(await asked(createHttpServer()), true);
  assert.equal(await asked(createTlsServer({})), false);
  assert.equal(await asked(createServer((socket) => socket.end('<p>no</p>'))), false);
  assert.equal(await asked(createServer((socket) => socket.destroy())), false);
  assert.equal(await speaksPlainHttp(new URL('https://127.0.0.1:1/')), false);
});

test('a server that says nothing is not waited for', async () => {
  const begin = performance.now();
  assert.equal(await asked(createServer((socket) => socket.on('error', () => {}).unref())), false);
  assert.ok(performance.now() - begin < 3000);
});
