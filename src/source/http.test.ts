import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../base/digest.ts';
import { notFound } from '../base/errors.ts';
import type { LocalRefManager } from '../cache/manager.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { httpKey } from '../source/keys.ts';
import { HttpClient } from '../registry/http.ts';
import { LocalMounter } from '../store/local-mounter.ts';
import { openTestCache } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { type Fault, type SeenRequest, startFaulty } from '../testing/registry.ts';
import { openTestStore, temporaryRoot } from '../testing/store.ts';
import { HttpSource, type HttpSourceServices } from './http.ts';
import { HttpMemo } from './http-memo.ts';
import { downloadKey, httpFileName, httpSourceSpec, safeFileName } from './http-spec.ts';

const MODIFIED = 'Wed, 21 Oct 2015 07:28:00 GMT';

interface Bench extends AsyncDisposable {
  readonly services: HttpSourceServices;
  readonly refs: LocalRefManager;
  readonly context: { signal: AbortSignal; sessions: () => readonly string[] };
  readonly secrets: Map<string, string>;
}

async function bench(): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  const root = stack.use(temporaryRoot());
  const store = openTestStore(root.path);
  stack.defer(() => store.close());
  const refs = openTestCache(store);
  stack.defer(() => refs.close());
  const http = new HttpClient({ userAgent: 'buildkit/test' });
  stack.defer(() => http.close());
  const mounter = new LocalMounter(join(root.path, 'http-mounts'));
  const secrets = new Map<string, string>();
  const services: HttpSourceServices = {
    http,
    refs,
    key: httpKey,
    mountLocally: async (view) => {
      const mounted = mounter.mount(view.mounts);
      return {
        path: mounted.path,
        release: async () => {
          await mounted[Symbol.asyncDispose]();
          await view.release();
        },
      };
    },
    secret: async (id) => {
      const value = secrets.get(id);
      if (value === undefined) throw notFound(`secret ${id}: not found`);
      return Buffer.from(value);
    },
    async *upload(url) {
      yield Buffer.from(`uploaded ${url.pathname}`);
    },
  };
  const context = { signal: AbortSignal.timeout(20_000), sessions: () => [] };
  return { services, refs, context, secrets, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function inTree<T>(ref: ImmutableRef, use: (dir: string) => T): Promise<T> {
  await using view = await ref.mount(true);
  return withMounted(view.mounts, use);
}

/** A server with one file of the given text; `etag` false: it tells no tag. */
function fileServer(text: () => string, etag = true) {
  return startFaulty(undefined, (request: SeenRequest): Fault => {
    const tag = `"${createHash('md5').update(text()).digest('hex')}"`;
    if (etag && request.headers['if-none-match'] === tag && request.method === 'GET') return { status: 304 };
    const headers = { 'last-modified': MODIFIED, ...(etag ? { etag: `W/${tag}` } : {}) };
    return { status: 200, headers, body: request.method === 'HEAD' ? '' : text() };
  });
}

test("a file with name, owner, mode and time; the key is upstream's", async () => {
  await using b = await bench();
  await using server = await fileServer(() => 'hello');
  const attrs = { 'http.perm': '0644', 'http.uid': '12', 'http.gid': '34', 'http.filename': 'x/greeting' };
  const source = new HttpSource(httpSourceSpec(`http://${server.host}/a/file.txt`, attrs), b.services);
  const { key, pin, done } = await source.cacheKey(0, b.context);
  assert.equal(pin, digestOf('hello'));
  assert.equal(done, true);
  const json = `{"Filename":"greeting","Perm":420,"UID":12,"GID":34,"Checksum":"${pin}","LastModTime":"${MODIFIED}"}`;
  assert.equal(key, digestOf(json));
  await using ref = await source.snapshot(b.context);
  await inTree(ref, (dir) => {
    assert.deepEqual(readdirSync(dir), ['greeting']);
    const stat = lstatSync(join(dir, 'greeting'));
    assert.deepEqual([stat.mode & 0o7777, stat.uid, stat.gid], [0o644, 12, 34]);
    assert.equal(stat.mtimeMs, Date.parse(MODIFIED));
    assert.equal(readFileSync(join(dir, 'greeting'), 'utf8'), 'hello');
  });
  assert.equal(server.seen.length, 1);
  assert.equal(server.seen[0]?.headers['user-agent'], 'buildkit/test');
});

test('user and password of a URL reach the server alone', async () => {
  await using b = await bench();
  await using server = await fileServer(() => 'hello');
  const url = `http://me:hunter2@${server.host}/f`;
  await using ref = await new HttpSource(httpSourceSpec(url, {}), b.services).snapshot(b.context);
  const basic = `Basic ${Buffer.from('me:hunter2').toString('base64')}`;
  assert.equal(server.seen.at(-1)?.headers.authorization, basic);
  assert.equal(ref.record.description, `http url http://xxxxx:xxxxx@${server.host}/f`);
  const other = httpSourceSpec(url, { 'http.checksum': digestOf('other') });
  await assert.rejects(new HttpSource(other, b.services).snapshot(b.context), (error: Error) => {
    assert.match(error.message, /^digest mismatch sha256:/);
    assert.doesNotMatch(error.message, /hunter2/);
    return true;
  });
});

test('an unchanged file is not fetched again, a changed one is', async () => {
  await using b = await bench();
  let text = 'one';
  await using server = await fileServer(() => text);
  const spec = httpSourceSpec(`http://${server.host}/f`, {});
  const make = () => new HttpSource(spec, b.services);
  const first = await make().cacheKey(0, b.context);
  assert.deepEqual(await make().cacheKey(0, b.context), first);
  assert.deepEqual(
    server.seen.map((r) => r.method),
    ['GET', 'HEAD'],
  );
  text = 'two';
  const second = await make().cacheKey(0, b.context);
  assert.equal(second.pin, digestOf('two'));
  assert.notEqual(second.key, first.key);
});

test('with a checksum the key needs no server, and other content is refused', async () => {
  await using b = await bench();
  await using server = await fileServer(() => 'hello', false);
  const url = `http://${server.host}/f`;
  const right = httpSourceSpec(url, { 'http.checksum': digestOf('hello') });
  const source = new HttpSource(right, b.services);
  await source.cacheKey(0, b.context);
  assert.equal(server.seen.length, 0);
  await (await source.snapshot(b.context)).release();
  await (await new HttpSource(right, b.services).snapshot(b.context)).release();
  assert.equal(server.seen.length, 1);
  const wrong = httpSourceSpec(url, { 'http.checksum': digestOf('other') });
  await assert.rejects(new HttpSource(wrong, b.services).snapshot(b.context), {
    message: `digest mismatch ${digestOf('hello')}: ${digestOf('other')}`,
  });
});

test('a gzipped answer is unpacked; a broken one is an error', async () => {
  await using b = await bench();
  const packed = gzipSync('content');
  await using server = await startFaulty(undefined, ({ url }) => ({
    status: 200,
    headers: { 'content-encoding': 'gzip' },
    body: url === '/cut' ? packed.subarray(0, -9) : packed,
  }));
  const at = (path: string) => new HttpSource(httpSourceSpec(`http://${server.host}${path}`, {}), b.services);
  const source = at('/whole');
  assert.equal((await source.cacheKey(0, b.context)).pin, digestOf('content'));
  assert.equal(server.seen[0]?.headers['accept-encoding'], 'gzip');
  await assert.rejects(at('/cut').cacheKey(0, b.context), /unexpected end of file/);
});

test('a build asks for a URL once and keeps what it got', async () => {
  await using b = await bench();
  let text = 'one';
  await using server = await fileServer(() => text);
  const spec = httpSourceSpec(`http://${server.host}/f`, {});
  {
    await using memo = new HttpMemo();
    const services = { ...b.services, memo: () => memo };
    const make = (attrs = {}) => new HttpSource(httpSourceSpec(`http://${server.host}/f`, attrs), services);
    const first = await make().metadata(b.context);
    text = 'two';
    await Array.fromAsync(b.refs.prune([{ all: true }]));
    const source = make();
    assert.equal((await source.metadata(b.context)).digest, first.digest);
    await using ref = await source.snapshot(b.context);
    await inTree(ref, (dir) => assert.equal(readFileSync(join(dir, 'f'), 'utf8'), 'one'));
    assert.equal(server.seen.length, 1);
    const other = make({ 'http.checksum': digestOf('two') });
    await assert.rejects(other.snapshot(b.context), /digest mismatch/);
  }
  await Array.fromAsync(b.refs.prune([{ all: true }]));
  assert.equal(b.refs.search('http.url', downloadKey(spec)).length, 0);
  assert.equal((await new HttpSource(spec, b.services).metadata(b.context)).digest, digestOf('two'));
});

test('secrets become the Authorization header and do not leave their host', async () => {
  await using b = await bench();
  await using elsewhere = await fileServer(() => 'there');
  await using server = await startFaulty(undefined, () => ({
    status: 302,
    headers: { location: `http://${elsewhere.host}/f` },
  }));
  const url = `http://${server.host}/f`;
  b.secrets.set('HTTP_AUTH_TOKEN_127.0.0.1', 'tok');
  await new HttpSource(httpSourceSpec(url, {}), b.services).cacheKey(0, b.context);
  assert.equal(server.seen[0]?.headers.authorization, 'Bearer tok');
  assert.equal(elsewhere.seen[0]?.headers.authorization, undefined);
  const named = httpSourceSpec(url, { 'http.authheadersecret': 'mine' });
  await assert.rejects(
    new HttpSource(named, b.services).cacheKey(0, b.context),
    /failed to retrieve HTTP auth secret mine: secret mine: not found/,
  );
  b.secrets.set('mine', 'Custom 1');
  await new HttpSource(named, b.services).cacheKey(0, b.context);
  assert.equal(server.seen.at(-1)?.headers.authorization, 'Custom 1');
});

test('failures name the status or the connection, and leave nothing behind', async () => {
  await using b = await bench();
  await using server = await startFaulty(undefined, (r) =>
    r.url === '/cut' ? { hangUp: true } : { status: 404 },
  );
  const of = (path: string) => new HttpSource(httpSourceSpec(`http://${server.host}${path}`, {}), b.services);
  await assert.rejects(of('/x').cacheKey(0, b.context), /^BuildError: invalid response status 404$/);
  await assert.rejects(of('/cut').cacheKey(0, b.context), /^BuildError: Get "http:\/\/127/);
});

test('a server that fails for a moment, and an answer that is cut off, are asked again', async () => {
  await using b = await bench();
  const text = 'x'.repeat(100_000);
  await using whole = await fileServer(() => text);
  const faults: Fault[] = [{ status: 503 }, { cutAfter: 1000 }];
  await using server = await startFaulty(whole.host, () => faults.shift());
  const spec = httpSourceSpec(`http://${server.host}/file`, {});
  await using ref = await new HttpSource(spec, b.services).snapshot(b.context);
  assert.equal(await inTree(ref, (dir) => readFileSync(join(dir, 'file'), 'utf8')), text);
  assert.deepEqual(faults, []);
  assert.equal(server.seen.length, 3);
});

test('uploads of the client, and checksums with a suffix', async () => {
  await using b = await bench();
  const source = new HttpSource(httpSourceSpec('http://buildkit-session/abc', {}), b.services);
  assert.equal((await source.metadata(b.context)).filename, 'abc');
  const want = createHash('sha512').update('uploaded /abc+').digest('hex');
  assert.equal(await source.checksum('sha512', Buffer.from('+'), b.context), `sha512:${want}`);
});

test('a signature is checked before the file has a key', async () => {
  const file = join(import.meta.dirname, 'sign', 'signatures.golden.json');
  const golden: { name: string; data: string; signature: string; key: string }[] = JSON.parse(
    readFileSync(file, 'utf8'),
  );
  const of = (name: string) => golden.find((each) => each.name === name)!;
  const [right, other] = [of('rsa by rsa'), of('eddsa by eddsa')];
  await using b = await bench();
  let text = right.data;
  await using server = await fileServer(() => text);
  const make = (key: string, attrs = {}) => {
    const signed = { 'http.sig.pubkey': key, 'http.sig.signature': right.signature, ...attrs };
    return new HttpSource(httpSourceSpec(`http://${server.host}/f`, signed), b.services);
  };
  const source = make(`${other.key}\n${right.key}`);
  const { key, pin } = await source.cacheKey(0, b.context);
  assert.equal(pin, digestOf(right.data));
  await (await source.snapshot(b.context)).release();
  const plain = new HttpSource(httpSourceSpec(`http://${server.host}/f`, {}), b.services);
  assert.equal((await plain.cacheKey(0, b.context)).key, key, 'the key is that of the file');
  const checksum = { 'http.checksum': digestOf(right.data) };
  await make(right.key, checksum).cacheKey(0, b.context);
  const unknown =
    /^BuildError: failed to verify pgp signature: signature by \w+: openpgp: signature made by unk/;
  await assert.rejects(make(other.key).cacheKey(0, b.context), unknown);
  await assert.rejects(make(other.key, checksum).cacheKey(0, b.context), unknown);
  await assert.rejects(
    make(right.key, { 'http.checksum': digestOf('x') }).cacheKey(0, b.context),
    /^BuildError: failed to resolve source reference for signature verification: digest mismatch/,
  );
  text = 'forged';
  await assert.rejects(make(right.key).cacheKey(0, b.context), /RSA verification failure/);
  for (const attrs of [{ 'http.sig.pubkey': '' }, { 'http.sig.signature': '' }])
    assert.throws(() => make(right.key, attrs), {
      message: 'http signature verification requires both pubkey and signature',
    });
});

test('file names', () => {
  const spec = httpSourceSpec('https://host/a/b%20c?x=1', {});
  assert.equal(httpFileName(spec, undefined), 'b c');
  assert.equal(httpFileName(spec, 'attachment; filename="../../etc/passwd"'), 'passwd');
  assert.equal(httpFileName(spec, "attachment; filename*=UTF-8''%e2%82%ac.txt"), '€.txt');
  assert.equal(httpFileName(spec, 'attachment; filename=plain.txt'), 'plain.txt');
  assert.equal(httpFileName(httpSourceSpec('https://host/', {}), undefined), 'download');
  for (const bad of ['..', '.', '', 'a\u0000b', '/']) assert.equal(safeFileName(bad), 'download');
  assert.throws(
    () => httpSourceSpec('http://h/', { 'http.perm': '9x' }),
    /strconv.ParseInt: parsing "9x": invalid syntax/,
  );
  assert.equal(httpSourceSpec('http://h/', { 'http.perm': '0o600' }).perm, 0o600);
});
