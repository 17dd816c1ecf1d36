import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { encodeManifest } from '../oci/manifest.ts';
import { mediaTypeOciConfig, mediaTypeOciIndex, mediaTypeOciManifest } from '../oci/media-types.ts';
import { parseReference } from '../oci/reference.ts';
import {
  type Fault,
  haveRegistry,
  type SeenRequest,
  startFaulty,
  startRegistry,
  type TestServer,
} from '../testing/registry.ts';
import type { RegistryConfig } from './config.ts';
import { anonymous, type Credentials } from './credentials.ts';
import { Registry } from './registry.ts';
import type { RegistryContext } from './session.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const skip = haveRegistry ? false : 'docker-registry is not installed';
let real: TestServer;
const open: Registry[] = [];

before(async () => {
  if (haveRegistry) real = await startRegistry();
});
after(async () => {
  for (const registry of open) await registry.close();
  await real?.[Symbol.asyncDispose]();
});

function client(registries: Record<string, RegistryConfig> = {}): Registry {
  const registry = new Registry({ registries, userAgent: 'buildkit/test' });
  open.push(registry);
  return registry;
}

function context(over: Partial<RegistryContext> = {}): RegistryContext {
  return { credentials: anonymous, signal: AbortSignal.timeout(20_000), ...over };
}

function blob(data: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(data), size: data.length };
}

async function* bytes(data: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += 65536) yield data.subarray(at, at + 65536);
}

interface Pushed {
  readonly layer: Descriptor;
  readonly data: Uint8Array;
  readonly manifest: Descriptor;
}

async function pushImage(registry: Registry, host: string, name: string, size = 300_000): Promise<Pushed> {
  const ref = parseReference(`${host}/${name}:v1`);
  const data = randomBytes(size);
  const layer = blob(data, LAYER);
  const configData = Buffer.from('{"architecture":"amd64","os":"linux"}');
  const config = blob(configData, mediaTypeOciConfig);
  const text = encodeManifest({ kind: 'manifest', mediaType: mediaTypeOciManifest, config, layers: [layer] });
  const manifest = blob(text, mediaTypeOciManifest);
  await registry.push(ref, layer, () => bytes(data), context());
  await registry.push(ref, config, () => bytes(configData), context());
  await registry.push({ ...ref, digest: manifest.digest }, manifest, () => bytes(text), context());
  return { layer, data, manifest };
}

async function collect(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const part of parts) chunks.push(part);
  return Buffer.concat(chunks);
}

test('push, resolve by tag and digest, fetch, and skip what is there', { skip }, async () => {
  const registry = client();
  const { layer, data, manifest } = await pushImage(registry, real.host, 'a/b');
  const ref = parseReference(`${real.host}/a/b:v1`);
  assert.deepEqual(await registry.resolve(ref, context()), manifest);
  const byDigest = { name: ref.name, digest: manifest.digest };
  assert.deepEqual(await registry.resolve(byDigest, context()), manifest);
  assert.deepEqual(await collect(registry.fetch(ref, layer, 0, context())), data);
  assert.deepEqual(await collect(registry.fetch(ref, layer, 299_990, context())), data.subarray(299_990));
  const again = await registry.push(ref, layer, () => assert.fail('sent again'), context());
  assert.equal(again, 'exists');
  const text = await registry.fetchAll(ref, manifest, context());
  assert.equal(digestOf(text), manifest.digest);
});

test('a blob of another repository is mounted instead of sent', { skip }, async () => {
  const registry = client();
  const { layer } = await pushImage(registry, real.host, 'from/one');
  const annotated = {
    ...layer,
    annotations: { [`containerd.io/distribution.source.${real.host}`]: 'no/such,from/one' },
  };
  const to = parseReference(`${real.host}/from/two:v1`);
  const outcome = await registry.push(to, annotated, () => assert.fail('sent'), context());
  assert.equal(outcome, 'mounted');
  const missing = {
    ...layer,
    annotations: { [`containerd.io/distribution.source.${real.host}`]: 'no/such' },
  };
  const data = randomBytes(10);
  const other = { ...missing, digest: digestOf(data), size: 10 };
  assert.equal(await registry.push(to, other, () => bytes(data), context()), 'uploaded');
});

test('a missing tag is not found under its full name', { skip }, async () => {
  const ref = parseReference(`${real.host}/nothing/here:v9`);
  await assert.rejects(client().resolve(ref, context()), (error: Error & { code?: number }) => {
    assert.equal(error.message, `${real.host}/nothing/here:v9: not found`);
    assert.equal(error.code, 5);
    return true;
  });
});

async function withFaults(
  fault: (request: SeenRequest, count: number) => Fault | undefined,
  work: (host: string, seen: readonly SeenRequest[], image: Pushed) => Promise<void>,
): Promise<void> {
  const image = await pushImage(client(), real.host, 'f/img');
  await using server = await startFaulty(real.host, fault);
  await work(server.host, server.seen, image);
}

test('a cut download goes on where it stopped', { skip }, async () => {
  let cuts = 0;
  await withFaults(
    (request) => (request.url.includes('/blobs/') && cuts++ < 2 ? { cutAfter: 100_000 } : undefined),
    async (host, seen, image) => {
      const ref = parseReference(`${host}/f/img:v1`);
      const lines: string[] = [];
      const log = (line: string): void => void lines.push(line);
      const got = await collect(client().fetch(ref, image.layer, 0, context({ log })));
      assert.deepEqual(got, image.data);
      const ranges = seen.filter((r) => r.url.includes('/blobs/')).map((r) => r.headers.range);
      assert.equal(ranges.length, 3);
      assert.equal(ranges[0], undefined);
      assert.match(ranges[1] ?? '', /^bytes=\d{4,}-$/);
      assert.match(lines.join(''), /error: .*\nretrying in 1s\n/);
    },
  );
});

test('a server without Range is read again from the start', { skip }, async () => {
  await withFaults(
    () => ({ noRange: true }),
    async (host, _seen, image) => {
      const ref = parseReference(`${host}/f/img:v1`);
      const got = await collect(client().fetch(ref, image.layer, 250_000, context()));
      assert.deepEqual(got, image.data.subarray(250_000));
    },
  );
});

test('429, one 500, and HEAD not allowed are survived; a server that is broken is asked for 7 s', {
  skip,
}, async () => {
  await withFaults(
    (_request, count) => {
      if (count === 1) return { status: 429, headers: { 'retry-after': '0' } };
      if (count === 2) return { status: 500 };
      return count === 3 ? { status: 405 } : undefined;
    },
    async (host, seen, image) => {
      const found = await client().resolve(parseReference(`${host}/f/img:v1`), context());
      assert.deepEqual(found, image.manifest);
      assert.deepEqual(
        seen.slice(0, 4).map((r) => r.method),
        ['HEAD', 'HEAD', 'HEAD', 'GET'],
      );
    },
  );
  await withFaults(
    () => ({ status: 500 }),
    async (host, seen) => {
      await assert.rejects(
        client().resolve(parseReference(`${host}/f/img:v1`), context()),
        /unexpected status from HEAD request to http:\/\/127\.0\.0\.1:\d+\/v2\/f\/img\/manifests\/v1: 500 Internal Server Error/,
      );
      assert.equal(seen.length, 8);
    },
  );
});

test('a digest mismatch is refused', { skip }, async () => {
  await withFaults(
    (request) => (request.method === 'GET' ? { status: 200, body: '{"schemaVersion":2}' } : undefined),
    async (host, _seen, image) => {
      const wrong = { ...image.manifest, size: 19 };
      await assert.rejects(
        client().fetchAll(parseReference(`${host}/f/img:v1`), wrong, context()),
        /unexpected commit digest sha256:[0-9a-f]+, expected sha256:[0-9a-f]+: failed precondition/,
      );
    },
  );
});

test('abort ends a request that is never answered', async () => {
  await using server = await startFaulty(undefined, () => ({ silent: true }));
  const signal = AbortSignal.timeout(100);
  await assert.rejects(client().resolve(parseReference(`${server.host}/x:v1`), context({ signal })), {
    name: 'TimeoutError',
  });
});

test('a server that hangs up is tried five times, and that four times with pauses', async () => {
  await using server = await startFaulty(undefined, () => ({ hangUp: true }));
  await assert.rejects(
    client().resolve(parseReference(`${server.host}/x:v1`), context()),
    /^BuildError: failed to do request: Head "http:/,
  );
  assert.equal(server.seen.length, 20);
});

test('mirrors come first and are told the registry; the registry itself is the last resort', {
  skip,
}, async () => {
  const image = await pushImage(client(), real.host, 'm/img');
  await using mirror = await startFaulty(real.host, (r) =>
    r.url.includes('/blobs/') ? { status: 404 } : undefined,
  );
  const registry = client({ [real.host]: { mirrors: [`https://${mirror.host}`] } });
  const ref = parseReference(`${real.host}/m/img:v1`);
  assert.deepEqual(await registry.resolve(ref, context()), image.manifest);
  assert.deepEqual(await collect(registry.fetch(ref, image.layer, 0, context())), image.data);
  assert.equal(mirror.seen.length, 2);
  for (const { url } of mirror.seen) assert.match(url, /[?&]ns=127\.0\.0\.1/);
});

test('at most four transfers at a time, manifests have a place of their own', async () => {
  await using server = await startFaulty(undefined, () => ({ silent: true }));
  const stop = new AbortController();
  const registry = client();
  const ref = parseReference(`${server.host}/x:v1`);
  const layer = { mediaType: LAYER, digest: digestOf('x'), size: 10 };
  const running = Array.from({ length: 8 }, () =>
    collect(registry.fetch(ref, layer, 0, context({ signal: stop.signal }))).catch(() => {}),
  );
  const manifest = { ...layer, mediaType: mediaTypeOciManifest };
  running.push(collect(registry.fetch(ref, manifest, 0, context({ signal: stop.signal }))).catch(() => {}));
  while (server.seen.length < 5) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, 50));
  stop.abort();
  await Promise.all(running);
  assert.equal(server.seen.filter((r) => r.url.includes('/blobs/')).length, 4);
  assert.equal(server.seen.filter((r) => r.url.includes('/manifests/')).length, 1);
});

interface TokenServer {
  readonly fault: (request: SeenRequest) => Fault | undefined;
  readonly tokens: { scopes: string[]; user: string }[];
}

/** A registry and its token server at one address. `allow` decides which user may have which scopes. */
function tokenServer(allow: (user: string, scopes: string[]) => boolean, expiresIn = 300): TokenServer {
  const tokens: { scopes: string[]; user: string }[] = [];
  const fault = (request: SeenRequest): Fault | undefined => {
    const url = new URL(request.url, `http://${request.headers.host}`);
    if (url.pathname === '/token') {
      if (request.method === 'POST') return { status: 401 };
      const basic = Buffer.from((request.headers.authorization ?? '').slice(6), 'base64').toString();
      const user = basic.split(':')[0] ?? '';
      const scopes = url.searchParams.getAll('scope');
      if (!allow(user, scopes) && user !== '') return { status: 401 };
      tokens.push({ scopes, user });
      const token = allow(user, scopes) ? `good ${scopes.join(' ')}` : 'bad';
      return { status: 200, body: JSON.stringify({ token, expires_in: expiresIn }) };
    }
    const wanted = /^\/v2\/(.*)\/(manifests|blobs)\//.exec(url.pathname)?.[1];
    const need = `repository:${wanted}:pull${['POST', 'PUT'].includes(request.method) ? ',push' : ''}`;
    if (request.headers.authorization?.startsWith('Bearer good')) return undefined;
    const error = request.headers.authorization ? ',error="insufficient_scope"' : '';
    const challenge = `Bearer realm="http://${request.headers.host}/token",service="reg",scope="${need}"${error}`;
    return { status: 401, headers: { 'www-authenticate': challenge } };
  };
  return { fault, tokens };
}

function user(name: string, calls: string[] = []): Credentials {
  return {
    ...anonymous,
    sessions: () => [`session-${name}`],
    credentials: (host) => {
      calls.push(host);
      return Promise.resolve({ sessionId: `session-${name}`, username: name, secret: `secret-${name}` });
    },
  };
}

test('an anonymous token is fetched once and used again', { skip }, async () => {
  const image = await pushImage(client(), real.host, 't/img');
  const auth = tokenServer(() => true);
  await using server = await startFaulty(real.host, auth.fault);
  const registry = client();
  const ref = parseReference(`${server.host}/t/img:v1`);
  assert.deepEqual(await registry.resolve(ref, context()), image.manifest);
  assert.deepEqual(await collect(registry.fetch(ref, image.layer, 0, context())), image.data);
  assert.deepEqual(auth.tokens, [{ scopes: ['repository:t/img:pull'], user: '' }]);
});

test('a refused anonymous pull says so', async () => {
  const auth = tokenServer(() => false);
  await using server = await startFaulty(undefined, auth.fault);
  await assert.rejects(
    client().resolve(parseReference(`${server.host}/p/img:v1`), context()),
    /pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed$/,
  );
});

test('credentials are asked once, tokens are not shared with a client that has others', {
  skip,
}, async () => {
  await pushImage(client(), real.host, 'c/img');
  const auth = tokenServer((name) => name === 'ann' || name === 'bob');
  await using server = await startFaulty(real.host, auth.fault);
  const registry = client();
  const ref = parseReference(`${server.host}/c/img:v1`);
  const calls: string[] = [];
  const ann = context({ credentials: user('ann', calls) });
  await registry.resolve(ref, ann);
  await registry.resolve(ref, ann);
  assert.deepEqual(calls, [server.host]);
  await registry.resolve(ref, context({ credentials: user('bob') }));
  assert.deepEqual(
    auth.tokens.map((t) => t.user),
    ['ann', 'bob'],
  );
  const mallory = registry.resolve(ref, context({ credentials: user('mallory') }));
  await assert.rejects(mallory, /failed to authorize: failed to fetch oauth token: unexpected status from/);
});

test('a client that fetches tokens itself is left to do it', { skip }, async () => {
  await pushImage(client(), real.host, 'd/img');
  const auth = tokenServer(() => true);
  await using server = await startFaulty(real.host, auth.fault);
  const asked: string[] = [];
  const credentials: Credentials = {
    ...anonymous,
    sessions: () => ['s1'],
    credentials: () => assert.fail('credentials left the client'),
    tokenAuthority: () => Promise.resolve({ sessionId: 's1', key: new Uint8Array(32) }),
    fetchToken: (request) => {
      asked.push(`${request.clientId} ${request.service} ${request.scopes}`);
      return Promise.resolve({ token: 'good', expiresIn: 0, issuedAt: 0 });
    },
  };
  await client().resolve(parseReference(`${server.host}/d/img:v1`), context({ credentials }));
  assert.deepEqual(asked, ['buildkit-client reg repository:d/img:pull']);
  assert.deepEqual(auth.tokens, []);
});

test('basic authorization', { skip }, async () => {
  await pushImage(client(), real.host, 'basic/img');
  const right = `Basic ${Buffer.from('ann:secret-ann').toString('base64')}`;
  await using server = await startFaulty(real.host, (request) =>
    request.headers.authorization === right
      ? undefined
      : { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } },
  );
  const ref = parseReference(`${server.host}/basic/img:v1`);
  await client().resolve(ref, context({ credentials: user('ann') }));
  await assert.rejects(client().resolve(ref, context({ credentials: user('bob') })), /401 Unauthorized/);
});

test('credentials do not follow a redirect to another server', { skip }, async () => {
  const image = await pushImage(client(), real.host, 'r/img');
  await using elsewhere = await startFaulty(real.host, () => undefined);
  const right = `Basic ${Buffer.from('ann:secret-ann').toString('base64')}`;
  await using server = await startFaulty(real.host, (request): Fault => {
    if (request.headers.authorization !== right)
      return { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } };
    return { status: 307, headers: { location: `http://${elsewhere.host}${request.url}` } };
  });
  const ref = parseReference(`${server.host}/r/img:v1`);
  const ann = context({ credentials: user('ann') });
  assert.deepEqual(await collect(client().fetch(ref, image.layer, 0, ann)), image.data);
  assert.equal(elsewhere.seen[0]?.headers.authorization, undefined);
});

test('a push that is throttled or cut is sent again', { skip }, async () => {
  let puts = 0;
  await withFaults(
    (request) => {
      if (request.method !== 'PUT' || !request.url.includes('uploads')) return undefined;
      puts++;
      if (puts === 1) return { status: 429 };
      return puts === 2 ? { hangUp: true } : undefined;
    },
    async (host) => {
      const data = randomBytes(2_000_000);
      const lines: string[] = [];
      const log = (line: string): void => void lines.push(line);
      const ref = parseReference(`${host}/f/push:v1`);
      const outcome = await client().push(ref, blob(data, LAYER), () => bytes(data), context({ log }));
      assert.equal(outcome, 'uploaded');
      assert.equal(puts, 3);
      assert.equal(lines.at(-1), 'retrying in 1s\n');
    },
  );
});

test('a push that is denied', async () => {
  const auth = tokenServer(() => false);
  await using server = await startFaulty(undefined, auth.fault);
  const data = randomBytes(10);
  await assert.rejects(
    client().push(parseReference(`${server.host}/x:v1`), blob(data, LAYER), () => bytes(data), context()),
    /push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed$/,
  );
});

test('pushes that read from a registry do not wait for one another', { skip }, async () => {
  const from = parseReference(`${real.host}/lazy/from:v1`);
  const to = parseReference(`${real.host}/lazy/to:v1`);
  const registry = client();
  const blobs = Array.from({ length: 6 }, () => randomBytes(200_000));
  for (const data of blobs) await registry.push(from, blob(data, LAYER), () => bytes(data), context());
  const pushes = blobs.map((data) => {
    const layer = blob(data, LAYER);
    return registry.push(to, layer, () => registry.fetch(from, layer, 0, context()), context());
  });
  assert.deepEqual(await Promise.all(pushes), Array(6).fill('uploaded'));
});

test('HEAD of a large blob keeps its connection', { skip }, async () => {
  const data = randomBytes(2_000_000);
  const ref = parseReference(`${real.host}/keep/alive:v1`);
  const registry = client();
  await registry.push(ref, blob(data, LAYER), () => bytes(data), context());
  let connections = 0;
  await using server = await startFaulty(
    real.host,
    () => undefined,
    () => connections++,
  );
  const through = parseReference(`${server.host}/keep/alive:v1`);
  for (let i = 0; i < 3; i++)
    assert.equal(await registry.push(through, blob(data, LAYER), () => bytes(data), context()), 'exists');
  assert.equal(connections, 1);
});

test('an upload that is refused before its end is stopped', async () => {
  await using server = await startFaulty(undefined, (request) => {
    if (request.method === 'POST') return { status: 202, headers: { location: '/upload' } };
    return request.method === 'PUT' ? { earlyStatus: 403 } : { status: 404 };
  });
  let open = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    open++;
    try {
      for (;;) {
        yield Buffer.alloc(65536);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    } finally {
      open--;
    }
  }
  const layer = { mediaType: LAYER, digest: digestOf('x'), size: 1e12 };
  await assert.rejects(
    client().push(parseReference(`${server.host}/x:v1`), layer, endless, context()),
    /403 Forbidden/,
  );
  for (let i = 0; open > 0 && i < 100; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(open, 0);
});

test('what refers to a manifest: by the interface for it, else under the tag that stands in', {
  skip,
}, async () => {
  const registry = client();
  const { manifest } = await pushImage(registry, real.host, 'referred');
  const ref = parseReference(`${real.host}/referred`);
  assert.deepEqual(await registry.referrers(ref, manifest.digest, context()), []);
  const entry = { ...manifest, artifactType: 'a/b' };
  const text = encodeManifest({ kind: 'index', mediaType: mediaTypeOciIndex, manifests: [entry] });
  const index = blob(text, mediaTypeOciIndex);
  const tag = manifest.digest.replace(':', '-');
  const tagged = parseReference(`${real.host}/referred:${tag}@${index.digest}`);
  await registry.push(tagged, index, () => bytes(text), context());
  assert.deepEqual(await registry.referrers(ref, manifest.digest, context()), [entry]);
  await withFaults(
    ({ url }) => (url.includes('/referrers/') ? { status: 200, body: Buffer.from(text) } : undefined),
    async (host, seen) => {
      const there = parseReference(`${host}/referred`);
      const other = digestOf('other');
      assert.deepEqual(await registry.referrers(there, other, context()), [entry]);
      assert.deepEqual(
        seen.map(({ url }) => url),
        [`/v2/referred/referrers/${other}`],
      );
    },
  );
});
