import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { digestOf } from '../../base/digest.ts';
import type { BuildError } from '../../base/errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { HttpClient } from '../../registry/http.ts';
import { FakeAzblob, TEST_ACCOUNT } from '../../testing/fake-azblob.ts';
import { type Fault, startFaulty, type SeenRequest } from '../../testing/registry.ts';
import type { CacheExportContext } from '../export.ts';
import { azblobOrigin, type AzblobCacheServices, azblobSink } from './cache.ts';
import { sharedKeyAuthorization } from './shared-key.ts';

const BLOCK = 8 << 20;
const http = new HttpClient({ userAgent: 'buildkit/test' });
const progress = { log: () => {}, status: () => {}, warn: () => {} };
const context: CacheExportContext = { signal: new AbortController().signal, progress };
const load = { ...context, sessions: () => [] };
const layerProgress: AzblobCacheServices['layerProgress'] = () => ({
  download: () => {},
  extract: () => {},
  combine: () => {},
});
const services: AzblobCacheServices = { http, env: {}, layerProgress };

function attrsOf(host: string, more: Record<string, string> = {}): Record<string, string> {
  return {
    account_url: `http://${host}/${TEST_ACCOUNT.name}`,
    account_name: TEST_ACCOUNT.name,
    secret_access_key: TEST_ACCOUNT.key,
    container: 'box',
    ...more,
  };
}

function blob(data: Uint8Array): Descriptor {
  return { mediaType: 'x', digest: digestOf(data), size: data.length };
}

function content(data: Uint8Array) {
  return async function* (offset: number) {
    for (let at = offset; at < data.length; at += 70_001) yield data.subarray(at, at + 70_001);
  };
}

async function read(attrs: Record<string, string>, descriptor: Descriptor, offset = 0): Promise<Buffer> {
  const origin = await azblobOrigin(attrs, services, context.signal);
  const chunks = [];
  for await (const chunk of origin.provider(load).open(descriptor, offset, context)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test('what is signed is the text that Azure documents', () => {
  const url = new URL('https://acc.blob.core.windows.net/box/a%20b?comp=block&BlockId=x%3D&comp=a');
  const headers = {
    'content-length': '5',
    'content-type': 'text/plain',
    'if-none-match': '*',
    range: 'bytes=1-',
    'x-ms-version': '2021-12-02',
    'x-ms-date': 'Fri, 26 Jun 2015 23:39:12 GMT',
    'user-agent': 'x',
  };
  const text =
    'PUT\n\n\n5\n\ntext/plain\n\n\n\n*\n\nbytes=1-\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2021-12-02\n' +
    '/acc/box/a%20b\nblockid:x=\ncomp:a,block';
  const signature = createHmac('sha256', 'key').update(text).digest('base64');
  const key = Buffer.from('key').toString('base64');
  assert.equal(
    sharedKeyAuthorization({ method: 'PUT', url, headers }, 'acc', key),
    `SharedKey acc:${signature}`,
  );
});

test('a container is made when it is missing; layers and configs are blobs in folders', async () => {
  await using azure = await FakeAzblob.start();
  const attrs = attrsOf(azure.host, { prefix: 'p 1/', name: 'one;two', blobs_prefix: 'b' });
  const sink = azblobSink(attrs, services);
  await sink.prepare(context.signal);
  const layer = blob(Buffer.from('layer'));
  assert.equal(await sink.has(layer, context), false);
  await sink.put(layer, content(Buffer.from('layer')), context);
  await sink.put(layer, content(Buffer.from('layer')), context); // another build was faster
  assert.equal(await sink.has(layer, context), true);
  await sink.putConfig(Buffer.from('{}'), context);
  await sink.putConfig(Buffer.from('{"x":1}'), context);
  const names = [...azure.containers.get('box')!.keys()];
  assert.deepEqual(names, [`p 1/b/${layer.digest}`, 'p 1/manifests/one', 'p 1/manifests/two']);
  assert.equal(azure.seen.filter(({ url }) => url.includes('restype')).length, 2);
  const all = await azblobOrigin({ ...attrs, name: 'gone;two' }, services, context.signal);
  assert.deepEqual(
    (await all.configs(100, load)).map((json) => json && String(json)),
    [undefined, '{"x":1}'],
  );
  await assert.rejects(all.configs(3, load), /failed to load cache manifest two: .*is larger than 3 bytes/);
  const { has } = all.provider(load);
  assert.deepEqual([await has!(layer, context), await has!(blob(Buffer.from('x')), context)], [true, false]);
  const asked = azure.seen.length;
  assert.ok(await all.provider(load).has!(layer, context));
  assert.equal(azure.seen.length, asked, 'what has been there is not asked for again');
});

test('large layers go up in blocks, and come down from where a connection broke', async () => {
  await using azure = await FakeAzblob.start();
  const faults: (Fault | undefined)[] = [];
  await using faulty = await startFaulty(azure.host, () => faults.shift());
  const attrs = attrsOf(faulty.host);
  const sink = azblobSink(attrs, services);
  await sink.prepare(context.signal);
  const data = randomBytes(2 * BLOCK + 7);
  faults.push({ cutUploadAfter: 1000 }, { status: 503, headers: { 'x-ms-error-code': 'ServerBusy' } });
  await sink.put(blob(data), content(data), context);
  assert.ok(
    azure.containers
      .get('box')!
      .get(`blobs/${digestOf(data)}`)!
      .equals(data),
  );
  assert.equal(azure.blocks.size, 0);
  faults.push(undefined, { cutAfter: 1_000_000 });
  assert.ok((await read(attrs, blob(data))).equals(data));
  assert.match(azure.seen.at(-1)!.headers.range!, /^bytes=\d{6,}-$/);
  const short = sink.put(
    { ...blob(data), digest: digestOf('s'), size: data.length + 1 },
    content(data),
    context,
  );
  await assert.rejects(short, /content ended after/);
  assert.ok(!azure.containers.get('box')!.has(`blobs/${digestOf('s')}`));
});

test('errors say what failed, where and why', async () => {
  await using azure = await FakeAzblob.start();
  const wrong = azblobSink(attrsOf(azure.host, { secret_access_key: 'd3Jvbmc=' }), services);
  await assert.rejects(wrong.prepare(context.signal), (error: BuildError) => {
    assert.equal(
      error.message,
      `failed to create container client: failed to get properties of cache container box: GetContainerProperties of container box in ${azure.host}: 403 AuthenticationFailed: AuthenticationFailed it is.`,
    );
    assert.match(error.hint!, /secret_access_key/);
    return true;
  });
  const closed = azblobOrigin(attrsOf('127.0.0.1:1'), services, AbortSignal.timeout(400));
  await assert.rejects(closed);
  const sink = azblobSink(attrsOf(azure.host), services);
  await sink.prepare(context.signal);
  azure.containers.clear();
  await assert.rejects(
    sink.putConfig(Buffer.from('{}'), context),
    /error writing manifest buildkit: PutBlob of box\/manifests\/buildkit.*404 ContainerNotFound/,
  );
});

test('attributes and environment, in the words of BuildKit', () => {
  const sink = (attrs: Record<string, string>, env = {}) => azblobSink(attrs, { ...services, env });
  assert.throws(() => sink({}), {
    message:
      'failed to create azblob config: either ${BUILDKIT_AZURE_STORAGE_ACCOUNT_URL} or account_url attribute is required for azblob cache',
  });
  assert.throws(() => sink({ account_url: 'x' }), /is not a valid url/);
  assert.throws(
    () => sink({ account_url: 'https://a.blob/?sv=1&sig=SECRET' }),
    (error: Error) => {
      assert.match(error.message, /has a query/);
      assert.doesNotMatch(error.message, /SECRET/);
      return true;
    },
  );
  sink({}, { BUILDKIT_AZURE_STORAGE_ACCOUNT_URL: 'https://a.blob.core.windows.net' });
});

/** Blobs of a daemon with this environment and no key, from one whose token is `good`. */
async function withToken(azure: FakeAzblob, env: Record<string, string>): Promise<void> {
  const attrs = attrsOf(azure.host, { secret_access_key: '' });
  await azblobSink(attrs, { ...services, env }).prepare(context.signal);
}

test('a service principal, a workload identity or a machine gives tokens', async () => {
  await using azure = await FakeAzblob.start();
  const asked: { request: SeenRequest }[] = [];
  await using authority = await startFaulty(undefined, (request) => {
    asked.push({ request });
    return { status: 200, body: JSON.stringify({ access_token: 'good', expires_in: 3600 }) };
  });
  const principal = {
    AZURE_TENANT_ID: 'ten',
    AZURE_CLIENT_ID: 'cli',
    AZURE_AUTHORITY_HOST: `http://${authority.host}`,
  };
  await withToken(azure, { ...principal, AZURE_CLIENT_SECRET: 'sec' });
  await withToken(azure, { ...principal, AZURE_FEDERATED_TOKEN_FILE: '/etc/hostname' });
  const app = { IDENTITY_ENDPOINT: `http://${authority.host}/msi`, IDENTITY_HEADER: 'head' };
  await withToken(azure, { ...app, AZURE_CLIENT_ID: 'cli' });
  await withToken(azure, { AZURE_POD_IDENTITY_AUTHORITY_HOST: `http://${authority.host}` });
  assert.deepEqual(
    asked.map(({ request }) => `${request.method} ${request.url}`),
    [
      'POST /ten/oauth2/v2.0/token',
      'POST /ten/oauth2/v2.0/token',
      'GET /msi?api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com%2F&client_id=cli',
      'GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F',
    ],
  );
  assert.equal(asked[2]!.request.headers['x-identity-header'], 'head');
  assert.equal(asked[3]!.request.headers.metadata, 'true');
  assert.ok(azure.seen.every(({ headers }) => headers.authorization === 'Bearer good'));
});

test('a token that has ended is replaced; one that is refused is told', async () => {
  await using azure = await FakeAzblob.start();
  const tokens = ['old', 'good', 'bad', 'bad', 'bad', 'bad'];
  await using authority = await startFaulty(undefined, () => {
    const token = tokens.shift();
    const body = { access_token: token, expires_on: String(Math.round(Date.now() / 1000) + 3600) };
    return token
      ? { status: 200, body: JSON.stringify(body) }
      : {
          status: 400,
          body: '{"error":"invalid_client","error_description":"AADSTS7000215: no\\r\\nTrace: 1"}',
        };
  });
  const env = { IDENTITY_ENDPOINT: `http://${authority.host}/msi`, IDENTITY_HEADER: 'head' };
  await withToken(azure, env);
  await assert.rejects(withToken(azure, env), /401 InvalidAuthenticationInfo/);
  await assert.rejects(
    withToken(azure, env),
    /managed identity: GET .*400 invalid_client: AADSTS7000215: no$/,
  );
});

test('tokens are not sent in the clear, and a machine without any says so soon', async () => {
  await using silent = await startFaulty(undefined, () => ({ silent: true }));
  const env = { AZURE_POD_IDENTITY_AUTHORITY_HOST: `http://${silent.host}` };
  await using azure = await FakeAzblob.start();
  const started = Date.now();
  await assert.rejects(withToken(azure, env), (error: BuildError) => {
    assert.match(error.message, /no credentials for azblob cache: .*no answer within 1 s/);
    assert.match(error.hint!, /AZURE_CLIENT_SECRET/);
    return true;
  });
  assert.ok(Date.now() - started < 8000);
  const plain = azblobSink({ account_url: 'http://storage.example', container: 'box' }, services);
  await assert.rejects(plain.prepare(context.signal), /tokens are not sent to an account_url without https/);
  const authority = {
    AZURE_TENANT_ID: 't',
    AZURE_CLIENT_ID: 'c',
    AZURE_CLIENT_SECRET: 's',
    AZURE_AUTHORITY_HOST: 'http://login.example',
  };
  await assert.rejects(withToken(azure, authority), /AZURE_AUTHORITY_HOST is not https/);
});
