import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { digestOf } from '../../base/digest.ts';
import { type BuildError, Code } from '../../base/errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { HttpClient } from '../../registry/http.ts';
import { FakeS3, TEST_KEYS } from '../../testing/fake-s3.ts';
import { type Fault, startFaulty, type SeenRequest } from '../../testing/registry.ts';
import type { CacheExportContext } from '../export.ts';
import { Semaphore } from '../../base/semaphore.ts';
import { parseS3Attrs } from './attrs.ts';
import { S3Client } from './client.ts';
import { credentialsFor } from './credentials.ts';
import { S3Objects } from './objects.ts';
import { s3Origin, type S3CacheServices, s3Sink } from './cache.ts';

const PART = 8 << 20;
const http = new HttpClient({ userAgent: 'buildkit/test' });
const progress = { log: () => {}, status: () => {}, warn: () => {} };
const context: CacheExportContext = { signal: new AbortController().signal, progress };
const load = { ...context, sessions: () => [] };
const services: S3CacheServices = {
  http,
  env: { HOME: '/nowhere' },
  layerProgress: () => ({ download: () => {}, extract: () => {}, combine: () => {} }),
};

function attrsOf(host: string, more: Record<string, string> = {}): Record<string, string> {
  return {
    bucket: 'bucket',
    region: 'us-east-1',
    endpoint_url: `http://${host}`,
    use_path_style: 'true',
    access_key_id: TEST_KEYS.accessKeyId,
    secret_access_key: TEST_KEYS.secretAccessKey,
    ...more,
  };
}

function blob(data: Uint8Array): Descriptor {
  return { mediaType: 'x', digest: digestOf(data), size: data.length };
}

function content(data: Uint8Array, chunk = 70_001) {
  return async function* (offset: number) {
    for (let at = offset; at < data.length; at += chunk) yield data.subarray(at, at + chunk);
  };
}

async function read(host: string, descriptor: Descriptor, offset = 0): Promise<Buffer> {
  const chunks = [];
  const provider = s3Origin(attrsOf(host), services).provider(load);
  for await (const chunk of provider.open(descriptor, offset, context)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const urls = (seen: readonly SeenRequest[]): string[] => seen.map(({ method, url }) => `${method} ${url}`);

test('layers and configs are objects under their prefixes, signed', async () => {
  await using s3 = await FakeS3.start();
  const prefixes = { prefix: 'p 1/', blobs_prefix: 'b+/', manifests_prefix: 'm/', name: 'one;two (x)' };
  const attrs = attrsOf(s3.host, prefixes);
  const sink = s3Sink(attrs, services);
  const layer = blob(Buffer.from('layer'));
  assert.equal(await sink.has(layer, context), false);
  await sink.put(layer, content(Buffer.from('layer')), context);
  assert.equal(await sink.has(layer, context), true);
  await sink.putConfig(Buffer.from('{}'), context);
  assert.deepEqual(
    [...s3.objects.keys()],
    [`bucket/p 1/b+/${layer.digest}`, 'bucket/p 1/m/one', 'bucket/p 1/m/two (x)'],
  );
  assert.ok(s3.seen.every(({ headers }) => !/checksum|trailer/.test(Object.keys(headers).join())));
  const origin = s3Origin(attrs, services);
  assert.deepEqual((await origin.configs(100, load)).map(String), ['{}']);
  await assert.rejects(origin.configs(1, load), /is larger than 1 bytes/);
  const other = s3Origin(attrsOf(s3.host), services);
  assert.deepEqual(await other.configs(100, load), [undefined]);
});

test('large layers go up in parts and come down in one, from any byte on', async () => {
  await using s3 = await FakeS3.start();
  const sink = s3Sink(attrsOf(s3.host, { upload_parallelism: '2' }), services);
  const data = randomBytes(2 * PART + 12_345);
  const layer = blob(data);
  await sink.put(layer, content(data), context);
  assert.ok(s3.objects.get(`bucket/blobs/${layer.digest}`)!.data.equals(data));
  assert.equal(s3.uploads.size, 0);
  assert.equal(s3.seen.filter(({ url }) => url.includes('partNumber=')).length, 3);
  assert.ok((await read(s3.host, layer)).equals(data));
  assert.ok((await read(s3.host, layer, PART + 1)).equals(data.subarray(PART + 1)));
  assert.equal(s3.seen.at(-1)!.headers.range, `bytes=${PART + 1}-`);
  assert.equal(s3.seen.at(-1)!.headers['accept-encoding'], 'identity');
});

test('a layer that rules of the bucket have dropped is missed before it is read', async () => {
  const layer = blob(Buffer.from('layer'));
  const faults: Fault[] = [];
  await withFaults(
    () => faults.shift(),
    async (host) => {
      const has = () => s3Origin(attrsOf(host), services).provider(load).has!(layer, context);
      assert.equal(await has(), false);
      faults.push({ status: 403 });
      assert.equal(await has(), false);
      faults.push({ status: 400 });
      await assert.rejects(has(), /HeadObject of .*: 400/);
      await s3Sink(attrsOf(host), services).put(layer, content(Buffer.from('layer')), context);
      assert.equal(await has(), true);
    },
  );
});

test('an upload that fails leaves no parts behind', async () => {
  await using s3 = await FakeS3.start();
  const sink = s3Sink(attrsOf(s3.host), services);
  const data = randomBytes(PART + 5);
  const short = sink.put({ ...blob(data), size: data.length + 1 }, content(data), context);
  await assert.rejects(short, { message: `content ended after ${PART + 5} of ${PART + 6} bytes` });
  const long = sink.put({ ...blob(data), size: PART + 4 }, content(data), context);
  await assert.rejects(long, { message: `content is longer than ${PART + 4} bytes` });
  assert.deepEqual([s3.uploads.size, s3.objects.size], [0, 0]);
  assert.equal(s3.seen.filter(({ method }) => method === 'DELETE').length, 2);
});

test('layers that have been there for long are made to look new', async () => {
  await using s3 = await FakeS3.start();
  const layer = blob(Buffer.from('layer'));
  const name = `bucket/blobs/${layer.digest}`;
  const old = new Date(Date.now() - 3_600_000);
  s3.objects.set(name, { data: Buffer.from('layer'), modifiedAt: old, metadata: {} });
  assert.equal(await s3Sink(attrsOf(s3.host), services).has(layer, context), true);
  assert.equal(s3.objects.get(name)!.modifiedAt, old);
  assert.equal(await s3Sink(attrsOf(s3.host, { touch_refresh: '30m' }), services).has(layer, context), true);
  const touched = s3.objects.get(name)!;
  assert.ok(Date.now() - touched.modifiedAt.getTime() < 60_000);
  assert.match(touched.metadata['x-amz-meta-updated-at']!, /^\d{4}-/);
  assert.equal(s3.seen.at(-1)!.headers['x-amz-metadata-directive'], 'REPLACE');
});

test('what is too large for one copy is copied in parts', async () => {
  await using s3 = await FakeS3.start({ maxCopyBytes: 10 });
  const data = Buffer.from('0123456789abcdefghijklmno');
  s3.objects.set('bucket/key', { data, modifiedAt: new Date(0), metadata: {} });
  const config = parseS3Attrs(attrsOf(s3.host), {});
  const client = new S3Client(config, { http, credentials: credentialsFor(config, services) });
  await new S3Objects(client, new Semaphore(1), 10).touch('key', data.length, context.signal);
  const touched = s3.objects.get('bucket/key')!;
  assert.ok(touched.modifiedAt.getTime() > 0);
  assert.ok(touched.data.equals(data));
  assert.deepEqual(
    s3.seen.flatMap(({ headers }) => headers['x-amz-copy-source-range'] ?? []),
    ['bytes=0-9', 'bytes=10-19', 'bytes=20-24'],
  );
});

/** Runs `work` with a bucket that fails as `fault` says. */
async function withFaults<T>(
  fault: (request: SeenRequest, count: number) => Fault | undefined,
  work: (host: string, s3: FakeS3, seen: readonly SeenRequest[]) => Promise<T>,
): Promise<T> {
  await using s3 = await FakeS3.start();
  await using faulty = await startFaulty(s3.host, fault);
  return await work(faulty.host, s3, faulty.seen);
}

test('servers that fail for a moment are asked again, and downloads go on where they stopped', async () => {
  const data = randomBytes(300_000);
  const layer = blob(data);
  const faults: (Fault | undefined)[] = [
    { status: 503, body: '<Error><Code>SlowDown</Code></Error>' },
    { hangUp: true },
  ];
  await withFaults(
    () => faults.shift(),
    async (host, s3) => {
      const sink = s3Sink(attrsOf(host, { retry_mode: 'adaptive' }), services);
      await sink.put(layer, content(data), context);
      assert.equal(s3.objects.size, 1);
      faults.push({ cutAfter: 100_000 }, { status: 500 });
      assert.ok((await read(host, layer)).equals(data));
      assert.match(s3.seen.at(-1)!.headers.range!, /^bytes=\d{5,}-$/);
      faults.push({ cutAfter: 1 });
      s3.objects.set('bucket/manifests/buildkit', {
        data: Buffer.from('{"a":1}'),
        modifiedAt: new Date(),
        metadata: {},
      });
      assert.deepEqual((await s3Origin(attrsOf(host), services).configs(100, load)).map(String), ['{"a":1}']);
    },
  );
});

test('a part that breaks is sent again; an error behind a good status is one', async () => {
  const data = randomBytes(PART + 100);
  const broken = new Set<string>();
  const first = (what: string): boolean => !broken.has(what) && Boolean(broken.add(what));
  await withFaults(
    ({ method, url }) => {
      if (url.includes('partNumber=2') && first('part')) return { cutUploadAfter: 50 };
      if (method === 'POST' && url.includes('uploadId=') && first('complete'))
        return { status: 200, body: '<Error><Code>InternalError</Code><Message>again</Message></Error>' };
      return undefined;
    },
    async (host, s3) => {
      await s3Sink(attrsOf(host), services).put(blob(data), content(data), context);
      assert.ok(s3.objects.get(`bucket/blobs/${digestOf(data)}`)!.data.equals(data));
      assert.equal(broken.size, 2);
    },
  );
});

test('tries are counted, and what will not pass is not tried again', async () => {
  await withFaults(
    () => ({ status: 500 }),
    async (host, _, seen) => {
      const sink = s3Sink(attrsOf(host, { retry_max_attempts: '2' }), services);
      await assert.rejects(
        sink.has(blob(Buffer.from('x')), context),
        /HeadObject of s3:\/\/bucket\/blobs\/.*: 500/,
      );
      assert.equal(seen.length, 2);
    },
  );
  await withFaults(
    () => ({
      status: 400,
      body: '<Error><Code>InvalidArgument</Code><Message>a &lt;b&gt;</Message></Error>',
    }),
    async (host, _, seen) => {
      const sink = s3Sink(attrsOf(host), services);
      await assert.rejects(sink.put(blob(Buffer.from('x')), content(Buffer.from('x')), context), {
        message: `PutObject of s3://bucket/blobs/${digestOf('x')}: 400 InvalidArgument: a <b>`,
      });
      assert.equal(seen.length, 1);
    },
  );
});

test('errors say what failed, where and why', async () => {
  await using s3 = await FakeS3.start({ region: 'eu-west-1' });
  const put = (more: Record<string, string>): Promise<void> =>
    s3Sink(attrsOf(s3.host, { region: 'eu-west-1', ...more }), services).putConfig(
      Buffer.from('{}'),
      context,
    );
  await assert.rejects(put({ bucket: 'other' }), (error: BuildError) => {
    assert.equal(
      error.message,
      'error writing manifest: buildkit: PutObject of s3://other/manifests/buildkit: 404 NoSuchBucket: The specified bucket does not exist',
    );
    assert.match(error.hint!, /create it/);
    assert.equal(error.code, Code.notFound);
    return true;
  });
  await assert.rejects(put({ secret_access_key: 'wrong' }), (error: BuildError) => {
    assert.match(error.message, /403 SignatureDoesNotMatch/);
    assert.doesNotMatch(error.message, /wrong/);
    return true;
  });
  await assert.rejects(put({ access_key_id: 'AKIAWRONG' }), /403 InvalidAccessKeyId/);
  await assert.rejects(
    put({ region: 'us-east-1' }),
    /400 AuthorizationHeaderMalformed: .*the bucket is in region "eu-west-1", not "us-east-1"/,
  );
  const gone = s3Origin(attrsOf(s3.host, { region: 'eu-west-1', bucket: 'other' }), services);
  await assert.rejects(gone.configs(10, load), /GetObject of s3:\/\/other.*NoSuchBucket/);
  const closed = s3Sink(attrsOf('127.0.0.1:1', { retry_max_attempts: '1' }), services);
  await assert.rejects(
    closed.has(blob(Buffer.from('x')), context),
    /failed to check file presence in cache: HeadObject: Head "http:.*connection refused/,
  );
});

test('a cancel ends pauses and requests', async () => {
  await withFaults(
    () => ({ silent: true }),
    async (host) => {
      const signal = AbortSignal.timeout(50);
      const started = Date.now();
      await assert.rejects(
        s3Sink(attrsOf(host), services).has(blob(Buffer.from('x')), { ...context, signal }),
      );
      assert.ok(Date.now() - started < 5000);
    },
  );
});

test('a clock that is off is learned from the server', async () => {
  const later = new Date(Date.now() + 3_600_000).toUTCString();
  const faults: Fault[] = [
    { status: 403, headers: { date: later }, body: '<Error><Code>RequestTimeTooSkewed</Code></Error>' },
  ];
  await withFaults(
    () => faults.shift(),
    async (host, s3) => {
      // The stand-in's own clock is right: the second try is an hour ahead, and says so.
      const written = s3Sink(attrsOf(host, { retry_max_attempts: '2' }), services).putConfig(
        Buffer.from('{}'),
        context,
      );
      await assert.rejects(written, /RequestTimeTooSkewed/);
      const sent = String(s3.seen[0]!.headers['x-amz-date']);
      assert.equal(sent.slice(0, 11), new Date(later).toISOString().replaceAll('-', '').slice(0, 11));
    },
  );
});

test('attributes and environment, in the words of BuildKit', () => {
  const sink = (attrs: Record<string, string>, env = {}) => s3Sink(attrs, { ...services, env });
  assert.throws(() => sink({}), { message: 'bucket ($AWS_BUCKET) not set for s3 cache' });
  assert.throws(() => sink({ bucket: 'b' }), { message: 'region ($AWS_REGION) not set for s3 cache' });
  assert.equal(sink({}, { AWS_BUCKET: 'b', AWS_REGION: 'r' }).parallel, 4);
  const place = { bucket: 'b', region: 'r' };
  assert.equal(sink({ ...place, upload_parallelism: '7' }).parallel, 7);
  for (const key of ['upload_parallelism', 'retry_max_attempts'])
    for (const bad of ['0', '-1', 'x', ''])
      assert.throws(() => sink({ ...place, [key]: bad }), { message: `${key} must be a positive integer` });
  const retries = (attrs: Record<string, string>, env: Record<string, string>) => {
    const { adaptive, maxAttempts } = parseS3Attrs({ ...place, ...attrs }, env);
    return [adaptive, maxAttempts];
  };
  const env = { AWS_RETRY_MODE: 'adaptive', AWS_MAX_ATTEMPTS: '7' };
  assert.deepEqual(retries({}, env), [true, 7]);
  assert.deepEqual(retries({ retry_mode: 'standard', retry_max_attempts: '2' }, env), [false, 2]);
  assert.deepEqual(retries({}, { AWS_RETRY_MODE: 'legacy', AWS_MAX_ATTEMPTS: 'x' }), [false, 3]);
  assert.throws(() => sink({ ...place, retry_mode: 'x' }), {
    message: 'retry_mode must be "standard" or "adaptive"',
  });
  assert.throws(
    () => sink({ ...place, endpoint_url: 'host:9000' }),
    /endpoint_url of s3 cache is no http address/,
  );
  // Values that make no sense are the default.
  sink({ ...place, touch_refresh: 'x', use_path_style: 'x', disable_accept_encoding: 'x' });
});

test('the accept-encoding header is not sent when a server in between would break the signature', async () => {
  await using s3 = await FakeS3.start();
  const sink = s3Sink(attrsOf(s3.host, { disable_accept_encoding: 'true' }), services);
  await sink.putConfig(Buffer.from('{}'), context);
  assert.equal(s3.seen[0]!.headers['accept-encoding'], undefined);
  assert.deepEqual(urls(s3.seen), ['PUT /bucket/manifests/buildkit']);
});
