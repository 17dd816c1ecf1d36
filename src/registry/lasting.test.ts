// Transfers that outlive their tokens, passwords and connections.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../base/digest.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { parseReference } from '../oci/reference.ts';
import {
  type Fault,
  haveRegistry,
  startFaulty,
  startRegistry,
  type TestServer,
} from '../testing/registry.ts';
import { TokenServer } from '../testing/token-server.ts';
import { anonymous, type Credentials } from './credentials.ts';
import { Registry } from './registry.ts';
import type { RegistryContext } from './session.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const skip = haveRegistry ? false : 'docker-registry is not installed';
const registry = new Registry({ registries: {}, userAgent: 'buildkit/test' });
let real: TestServer;

before(async () => {
  if (haveRegistry) real = await startRegistry();
});
after(async () => {
  await registry.close();
  await real?.[Symbol.asyncDispose]();
});

function context(over: Partial<RegistryContext> = {}): RegistryContext {
  return { credentials: anonymous, signal: AbortSignal.timeout(20_000), ...over };
}

function blob(data: Uint8Array): Descriptor {
  return { mediaType: LAYER, digest: digestOf(data), size: data.length };
}

async function* bytes(data: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += 65536) yield data.subarray(at, at + 65536);
}

function push(host: string, data: Uint8Array, over: Partial<RegistryContext> = {}) {
  const ref = parseReference(`${host}/lasting/img:v1`);
  return registry.push(ref, blob(data), (at) => bytes(data.subarray(at)), context(over));
}

test('a token is renewed before it ends, and at once when it ends before its time', { skip }, async () => {
  const tokens = new TokenServer({ lifeMs: 2000 });
  await using server = await startFaulty(real.host, (request) => tokens.fault(request));
  assert.equal(await push(server.host, randomBytes(10)), 'uploaded');
  assert.deepEqual([tokens.issued, tokens.refused], [1, 0]);
  await sleep(2100);
  assert.equal(await push(server.host, randomBytes(10)), 'uploaded');
  assert.deepEqual([tokens.issued, tokens.refused], [2, 0]);
  tokens.revoke();
  assert.equal(await push(server.host, randomBytes(10)), 'uploaded');
  assert.deepEqual([tokens.issued, tokens.refused], [3, 1]);
});

test('credentials are asked again when those known are refused', { skip }, async () => {
  const tokens = new TokenServer({ lifeMs: 60_000, login: 'ann:one' });
  let password = 'one';
  let asked = 0;
  const credentials: Credentials = {
    ...anonymous,
    sessions: () => ['s'],
    credentials: () => {
      asked++;
      return Promise.resolve({ sessionId: 's', username: 'ann', secret: password });
    },
  };
  let basic = '';
  await using server = await startFaulty(real.host, (request) => tokens.fault(request));
  await using plain = await startFaulty(real.host, ({ headers }) => {
    const right = `Basic ${Buffer.from(`ann:${basic}`).toString('base64')}`;
    if (headers.authorization === right) return undefined;
    return { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } };
  });
  basic = 'one';
  await push(server.host, randomBytes(10), { credentials });
  await push(plain.host, randomBytes(10), { credentials });
  assert.equal(asked, 2);
  password = 'two';
  tokens.login = 'ann:two';
  tokens.revoke();
  basic = 'two';
  await push(server.host, randomBytes(10), { credentials });
  await push(plain.host, randomBytes(10), { credentials });
  assert.equal(asked, 4);
  basic = 'three';
  tokens.login = 'ann:three';
  tokens.revoke();
  await assert.rejects(push(server.host, randomBytes(10), { credentials }), /401 Unauthorized/);
  await assert.rejects(push(plain.host, randomBytes(10), { credentials }), /401 Unauthorized/);
});

test('a token server that is busy, fails or hangs up is asked again', { skip }, async () => {
  const troubles: Fault[] = [{ status: 429 }, { status: 503 }, { hangUp: true }];
  const tokens = new TokenServer({ lifeMs: 60_000 });
  await using server = await startFaulty(real.host, (request) => {
    const trouble = request.url.startsWith('/token') ? troubles.shift() : undefined;
    return trouble ?? tokens.fault(request);
  });
  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);
  assert.equal(await push(server.host, randomBytes(10), { log }), 'uploaded');
  assert.deepEqual(troubles, []);
  assert.deepEqual(lines, [], 'the transfer did not have to start again');
});

test('so is a client that fetches tokens itself', { skip }, async () => {
  const tokens = new TokenServer({ lifeMs: 60_000 });
  await using server = await startFaulty(real.host, (request) => tokens.fault(request));
  const answers = ['unexpected status from POST request to http://x/token: 503', 'EOF'];
  const credentials: Credentials = {
    ...anonymous,
    sessions: () => ['s'],
    tokenAuthority: () => Promise.resolve({ sessionId: 's', key: new Uint8Array(32) }),
    fetchToken: async ({ realm, scopes }) => {
      const problem = answers.shift();
      if (problem !== undefined) throw new Error(problem);
      const query = scopes.map((scope) => `scope=${encodeURIComponent(scope)}`).join('&');
      const answer = await fetch(`${realm}?${query}`);
      const { token } = (await answer.json()) as { token: string };
      return { token, expiresIn: 60, issuedAt: 0 };
    },
  };
  assert.equal(await push(server.host, randomBytes(10), { credentials }), 'uploaded');
  answers.push('unexpected status from POST request to http://x/token: 403', 'not asked');
  tokens.revoke();
  await assert.rejects(push(server.host, randomBytes(10), { credentials }), /403/);
  assert.deepEqual(answers, ['not asked']);
});

test('a broken upload goes on where the registry has it', async () => {
  // docker-registry keeps nothing of a broken upload: this one does.
  const got: Buffer[] = [];
  const ranges: unknown[] = [];
  const size = (): number => got.reduce((sum, { length }) => sum + length, 0);
  const server = createServer(async (incoming, answer) => {
    const { method = '', url = '', socket } = incoming;
    if (method === 'HEAD') answer.writeHead(404).end();
    else if (method === 'POST') answer.writeHead(202, { location: '/upload?at=0' }).end();
    else if (method === 'GET')
      answer.writeHead(204, { location: '/upload?at=1', range: `0-${size() - 1}` }).end();
    else if (url.startsWith('/upload?at=0')) {
      for await (const chunk of incoming) {
        got.push(chunk);
        if (size() > 500_000) break;
      }
      socket.destroy();
    } else {
      assert.match(url, method === 'PATCH' ? /^\/upload\?at=1$/ : /^\/upload\?at=2&digest=sha256/);
      if (method === 'PATCH') ranges.push(size(), incoming.headers['content-range']);
      for await (const chunk of incoming) got.push(chunk);
      answer.writeHead(method === 'PUT' ? 201 : 202, { location: '/upload?at=2' }).end();
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const data = randomBytes(2_000_000);
  assert.equal(await push(`127.0.0.1:${address.port}`, data), 'uploaded');
  server.close();
  server.closeAllConnections();
  assert.equal(ranges[1], `${String(ranges[0])}-1999999`);
  assert.ok(Buffer.concat(got).equals(data));
});

test('a wait that a registry asks for is told', { skip }, async () => {
  let asked = 0;
  await using server = await startFaulty(real.host, () =>
    asked++ === 0 ? { status: 429, headers: { 'retry-after': '1' } } : undefined,
  );
  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);
  assert.equal(await push(server.host, randomBytes(10), { log }), 'uploaded');
  assert.deepEqual(lines, [`429 Too Many Requests from ${server.host}: waiting 1s\n`]);
});

test('a registry that kept nothing of a broken upload gets it again', { skip }, async () => {
  let cut = 0;
  await using server = await startFaulty(real.host, ({ method }) =>
    method === 'PUT' && cut++ === 0 ? { cutUploadAfter: 500_000 } : undefined,
  );
  const data = randomBytes(2_000_000);
  assert.equal(await push(server.host, data), 'uploaded');
  assert.equal(cut, 2);
  assert.equal(await push(real.host, data), 'exists');
});
