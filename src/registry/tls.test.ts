import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../base/digest.ts';
import { parseReference } from '../oci/reference.ts';
import { startFaulty } from '../testing/registry.ts';
import { hostsOf, isLocalHost, type RegistryConfig } from './config.ts';
import { anonymous } from './credentials.ts';
import { Registry } from './registry.ts';

const MANIFEST = '{"schemaVersion":2}';
const LAYER = Buffer.from(Uint8Array.from({ length: 3_000_001 }, (_, i) => (i * 5) ^ (i >> 7)));
const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is not installed';
let dir: string;

function openssl(...args: string[]): void {
  const { status, stderr } = spawnSync('openssl', args, { cwd: dir, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'tls-'));
  if (skip) return;
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=ca', '-days', '2');
  writeFileSync(join(dir, 'ext'), 'subjectAltName=IP:127.0.0.1\n');
  for (const name of ['server', 'client']) {
    openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    const ca = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'ext'];
    openssl('x509', '-req', '-in', `${name}.csr`, ...ca, '-out', `${name}.cert`);
  }
});
after(() => rmSync(dir, { recursive: true }));

async function secureServer(wantsClient = false) {
  const connections = new Set<unknown>();
  const read = (name: string) => readFileSync(join(dir, name));
  const options = { key: read('server.key'), cert: read('server.cert'), ca: read('ca.crt') };
  const server = createServer(
    { ...options, requestCert: wantsClient, rejectUnauthorized: wantsClient },
    (request, response) => {
      if (request.url?.includes('/blobs/')) {
        connections.add(request.socket);
        response.setHeader('content-length', LAYER.length).end(LAYER);
        return;
      }
      response.setHeader('docker-content-digest', digestOf(MANIFEST));
      response.setHeader('content-length', MANIFEST.length);
      response.end(request.method === 'HEAD' ? undefined : MANIFEST);
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** Over which layers were sent. */
    connections,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function resolveWith(host: string, config: RegistryConfig): Promise<string> {
  const registry = new Registry({ registries: { [host]: config }, userAgent: 'test' });
  try {
    const context = { credentials: anonymous, signal: AbortSignal.timeout(10_000) };
    return (await registry.resolve(parseReference(`${host}/a:b`), context)).digest;
  } finally {
    await registry.close();
  }
}

test('certificates are checked against the configured authority', { skip }, async () => {
  await using server = await secureServer();
  const https = { http: false };
  await assert.rejects(resolveWith(server.host, https), /failed to do request: Head "https:.*certificate/);
  assert.equal(await resolveWith(server.host, { ...https, ca: [join(dir, 'ca.crt')] }), digestOf(MANIFEST));
  assert.equal(await resolveWith(server.host, { ...https, insecure: true }), digestOf(MANIFEST));
  const missing = { ...https, ca: [join(dir, 'no.crt')] };
  await assert.rejects(resolveWith(server.host, missing), /failed to read .*no\.crt/);
});

test('layers come over one checked connection, as fast as they are taken', { skip }, async () => {
  await using server = await secureServer();
  const layer = { mediaType: 'application/x', digest: digestOf(LAYER), size: LAYER.length };
  const config = { http: false, ca: [join(dir, 'ca.crt')] };
  const registry = new Registry({ registries: { [server.host]: config }, userAgent: 'test' });
  const context = { credentials: anonymous, signal: AbortSignal.timeout(10_000) };
  const reference = parseReference(`${server.host}/a:b`);
  for (const pauseMs of [0, 5]) {
    const chunks: Buffer[] = [];
    for await (const chunk of registry.fetch(reference, layer, 0, context)) {
      await sleep(pauseMs);
      chunks.push(Buffer.from(chunk));
    }
    assert.ok(Buffer.concat(chunks).equals(LAYER));
  }
  assert.equal(server.connections.size, 1);
  await registry.close();
  const stranger = new Registry({ registries: { [server.host]: { http: false } }, userAgent: 'test' });
  const refused = stranger.fetch(reference, layer, 0, context).next();
  await assert.rejects(refused, /failed to do request: Get "https:.*certificate/);
});

test('a folder gives authorities and client certificates', { skip }, async () => {
  await using server = await secureServer(true);
  const withClient = join(dir, 'with-client');
  mkdirSync(withClient);
  for (const name of ['ca.crt', 'client.cert', 'client.key'])
    writeFileSync(join(withClient, name), readFileSync(join(dir, name)));
  const config = { http: false, tlsConfigDirs: [join(dir, 'absent'), withClient] };
  assert.equal(await resolveWith(server.host, config), digestOf(MANIFEST));
  const bare = { http: false, ca: [join(dir, 'ca.crt')] };
  await assert.rejects(resolveWith(server.host, bare), /failed to do request/);
});

test('insecure with http falls back to plain HTTP, insecure alone does not', { skip }, async () => {
  await using plain = await startFaulty(undefined, () => ({
    status: 200,
    headers: { 'docker-content-digest': digestOf(MANIFEST), 'content-length': '0' },
  }));
  const both = { http: true, insecure: true };
  assert.equal(await resolveWith(plain.host, both), digestOf(MANIFEST));
  await assert.rejects(resolveWith(plain.host, { http: false, insecure: true }), /failed to do request/);
});

test('hosts of a registry', () => {
  const shown = (domain: string, registries: Record<string, RegistryConfig>): string[] =>
    hostsOf(domain, registries).map((h) => `${h.scheme}://${h.host}${h.path}${h.canPush ? ' push' : ''}`);
  assert.deepEqual(shown('docker.io', {}), ['https://registry-1.docker.io/v2 push']);
  assert.deepEqual(shown('localhost:5000', {}), ['http://localhost:5000/v2 push']);
  assert.deepEqual(shown('localhost:5000', { 'localhost:5000': { http: false } }), [
    'https://localhost:5000/v2 push',
  ]);
  const config = {
    'docker.io': { mirrors: ['http://one/proxy//x/', 'two:5000'] },
    'two:5000': { http: true },
  };
  assert.deepEqual(shown('docker.io', config), [
    'https://one/v2/proxy/x',
    'http://two:5000/v2',
    'https://registry-1.docker.io/v2 push',
  ]);
  for (const host of ['localhost', 'localhost:1', '127.0.0.1', '127.9.9.9:80', '[::1]:5000'])
    assert.ok(isLocalHost(host), host);
  for (const host of ['127.example.com', 'example.com', '128.0.0.1']) assert.ok(!isLocalHost(host), host);
});
