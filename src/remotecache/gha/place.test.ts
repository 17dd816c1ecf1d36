import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { type Digest, digestOf } from '../../base/digest.ts';
import { HttpClient } from '../../registry/http.ts';
import {
  ActionsCache,
  type ActionsCacheOptions,
  actionsToken,
  GITHUB_TOKEN,
} from '../../testing/actions-cache.ts';
import { ghaConfig } from './config.ts';
import { saveMutable } from './mutable.ts';
import { inMemory } from './parts.ts';
import { ghaOrigin, type GhaServices, ghaSink } from './place.ts';
import { Requests } from './requests.ts';
import { FirstService } from './v1.ts';
import { SecondService } from './v2.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const signal = new AbortController().signal;
const MAIN = 'refs/heads/main';
const hash = (scope: string): string => digestOf(scope).slice(7, 15);

class Setup implements AsyncDisposable {
  readonly server: ActionsCache;
  readonly version: 1 | 2;
  readonly http = new HttpClient({ userAgent: 'test' });
  readonly logged: string[] = [];
  /** What the daemon has. */
  readonly local = new Set<Digest>();
  readonly context = {
    signal,
    sessions: () => [],
    progress: {
      log: (_: number, data: Uint8Array) => void this.logged.push(`${data}`),
      status() {},
      warn() {},
    },
  };

  constructor(server: ActionsCache, version: 1 | 2) {
    this.server = server;
    this.version = version;
  }

  get services(): GhaServices {
    const log = (message: string): void => void this.logged.push(message);
    const { http } = this;
    const logger = { debug: log, info: log, warn: log, error: log } as unknown as GhaServices['log'];
    const layerProgress = () => ({ download() {}, extract() {}, combine() {} });
    const content = { has: (digest: Digest) => this.local.has(digest) };
    return { http, content, api: this.server.url, log: logger, layerProgress };
  }

  config(attrs: Record<string, string> = {}) {
    return ghaConfig({ ...this.server.attrs(this.version), ...attrs });
  }

  sink(attrs?: Record<string, string>) {
    return ghaSink(this.config(attrs), this.services);
  }

  origin(attrs?: Record<string, string>) {
    return ghaOrigin(this.config(attrs), this.services);
  }

  async put(data: Uint8Array, sink = this.sink()): Promise<Digest> {
    const layer = layerOf(data);
    if (!(await sink.has(layer, this.context))) await sink.put(layer, inMemory(data).open, this.context);
    return layer.digest;
  }

  async read(data: Uint8Array, offset = 0, origin = this.origin()): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of origin.provider(this.context).open(layerOf(data), offset, { signal }))
      chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async configs(attrs?: Record<string, string>, maxBytes = 1000): Promise<(string | undefined)[]> {
    const found = await this.origin(attrs).configs(maxBytes, this.context);
    return found.map((data) => data && Buffer.from(data).toString());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.http.close();
    await this.server[Symbol.asyncDispose]();
    assert.deepEqual(this.server.violations, []);
  }
}

function layerOf(data: Uint8Array) {
  return { mediaType: LAYER, digest: digestOf(data), size: data.length };
}

/** One test for each version of the service. */
function bothVersions(
  name: string,
  run: (setup: Setup) => Promise<void>,
  options: ActionsCacheOptions = {},
): void {
  for (const version of [1, 2] as const)
    test(`v${version}: ${name}`, async () => {
      await using setup = new Setup(await ActionsCache.start(options), version);
      await run(setup);
    });
}

bothVersions('what is put is found, under the keys of BuildKit, and is not sent again', async (setup) => {
  const { server } = setup;
  const data = randomBytes(100_000);
  const digest = await setup.put(data);
  await setup.sink().putConfig(Buffer.from('{"layers":[]}'), setup.context);
  assert.deepEqual(server.store.keys(), [`buildkit-blob-1-${digest}`, `index-buildkit-1-${hash(MAIN)}#1`]);
  assert.deepEqual(await setup.read(data), data);
  assert.deepEqual(await setup.read(data, 99_990), data.subarray(99_990));
  assert.deepEqual(await setup.configs(), ['{"layers":[]}']);
  const before = server.requests.length;
  await setup.put(data);
  assert.equal(server.requests.length - before, 1, 'asked for, and nothing sent');
  await setup.sink().put(layerOf(data), inMemory(data).open, setup.context); // sent by another build meanwhile
  assert.equal(server.store.keys('buildkit-blob').length, 1);
  const provider = setup.origin().provider(setup.context);
  assert.equal(await provider.has?.(layerOf(data), { signal }), true);
  const other = layerOf(Buffer.from('other'));
  assert.equal(await provider.has?.(other, { signal }), false);
  setup.local.add(other.digest);
  assert.equal(await provider.has?.(other, { signal }), true);
});

bothVersions(
  'large and empty blobs: in parts that come together',
  async ({ server, http, version, ...setup }) => {
    const Service = version === 1 ? FirstService : SecondService;
    const access = { url: new URL(server.url), token: server.token };
    const service = new Service(new Requests({ http }, 60_000), access, 1000);
    for (const size of [0, 999, 1000, 1001, 12_345]) {
      const data = randomBytes(size);
      const key = `buildkit-blob-1-${digestOf(data)}`;
      const send = await service.reserve(key, setup.context);
      await send({ size, open: (offset) => pieces(data.subarray(offset), 300) }, setup.context);
      const { id } = server.store.entries.find((entry) => entry.key === key)!;
      assert.deepEqual(server.store.read(id), data);
    }
    const puts = server.requests.filter((one) => /^(PATCH|PUT)/.test(one)).length;
    assert.equal(puts, version === 1 ? 0 + 1 + 1 + 2 + 13 : 1 + 1 + 1 + 3 + 14);
  },
);

async function* pieces(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

const pull = [
  { Scope: 'refs/pull/7/merge', Permission: 3 },
  { Scope: MAIN, Permission: 1 },
];

bothVersions('scopes: one is written, all are read, in the order of the token', async (setup) => {
  const { server } = setup;
  await setup.sink().putConfig(Buffer.from('main'), setup.context);
  server.scopes = pull;
  const attrs = { token: (server.token = actionsToken(pull)) };
  assert.deepEqual(await setup.configs(attrs), [undefined, 'main']);
  await setup.sink(attrs).putConfig(Buffer.from('pull'), setup.context);
  assert.deepEqual(await setup.configs(attrs), ['pull', 'main']);
  assert.equal(server.store.entries[1]!.key, `index-buildkit-1-${hash('refs/pull/7/merge')}#1`);
  assert.equal(server.store.entries[1]!.scope, 'refs/pull/7/merge');
  assert.deepEqual(await setup.configs({ ...attrs, scope: 'other' }), [undefined, undefined]);
});

bothVersions('the index is written again, one after the other; the newest counts', async (setup) => {
  const states = ['one', 'two', 'three'];
  for (const state of states) await setup.sink().putConfig(Buffer.from(state), setup.context);
  const key = `index-buildkit-1-${hash(MAIN)}`;
  assert.deepEqual(
    setup.server.store.keys(),
    [1, 2, 3].map((n) => `${key}#${n}`),
  );
  assert.deepEqual(await setup.configs(), ['three']);
  await assert.rejects(
    setup.configs({}, 4),
    /^BuildError: cache index .*#3 is too large \(more than 4 bytes\)/,
  );
});

bothVersions('a number that is taken is waited for, and left out when its writer is gone', async (setup) => {
  const { server, http, version } = setup;
  const Service = version === 1 ? FirstService : SecondService;
  const access = { url: new URL(server.url), token: server.token };
  const service = new Service(new Requests({ http }, 60_000), access);
  const context = { signal };
  const save = (key: string): Promise<void> =>
    saveMutable(service, key, inMemory(Buffer.from('new')), context, 20);
  await service.reserve('gone#1', context);
  await save('gone');
  const send = await service.reserve('slow#1', context);
  const saved = save('slow');
  await send(inMemory(Buffer.from('old')), context);
  await saved;
  assert.deepEqual(server.store.keys(), ['gone#2', 'slow#1', 'slow#2']);
});

bothVersions(
  'a download goes on where it stopped, and an address that has ended is asked for again',
  async (setup) => {
    const { server } = setup;
    const data = randomBytes(200_000);
    await setup.put(data);
    const from = server.requests.length;
    let cuts = 0;
    server.fault = ({ method, path }) =>
      method === 'GET' && path.startsWith('/signed/') && cuts++ === 0 ? { cutAfter: 70_000 } : undefined;
    const finds = (): number => server.requests.slice(from).filter((one) => !one.includes('/signed/')).length;
    assert.deepEqual(await setup.read(data), data);
    assert.equal(cuts, 3, 'cut, refused, and the rest');
    assert.equal(finds(), 2, 'an address is good for one use here');
  },
  { signedUses: 1 },
);

bothVersions('a blob that the service has dropped is not there', async (setup) => {
  const data = randomBytes(10);
  await setup.put(data);
  const origin = setup.origin();
  assert.deepEqual(await setup.read(data, 0, origin), data);
  setup.server.store.evict('buildkit-blob');
  await assert.rejects(setup.read(data, 0, origin), /^BuildError: blob sha256:\w+: not found in the GitHub/);
});

bothVersions('listing: one question for all keys; without it, each is asked for', async (setup) => {
  const { server } = setup;
  const layers = Array.from({ length: 103 }, (_, i) => Buffer.from(`layer ${i}`));
  const plain = setup.sink();
  for (const data of layers) await setup.put(data, plain);
  const attrs = { repository: 'owner/name', ghtoken: GITHUB_TOKEN };
  const before = server.requests.length;
  const sink = setup.sink(attrs);
  for (const data of layers) await setup.put(data, sink);
  assert.deepEqual(server.requests.slice(before), Array(2).fill('GET /repos/owner/name/actions/caches'));
  await setup.put(Buffer.from('new'), sink);
  assert.equal(server.store.keys().length, 104);
  assert.deepEqual(setup.logged, []);
  await setup.put(layers[0]!, setup.sink({ ...attrs, ghtoken: 'wrong' }));
  assert.match(setup.logged.join(), /^could not list the keys of a GitHub Actions cache/);
});

bothVersions('what cannot be written says why, without token and signed addresses', async (setup) => {
  const fails = async (message: RegExp, work: () => Promise<unknown>): Promise<void> => {
    await assert.rejects(work, (error: Error) => {
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /eyJ|sig=(?!REDACTED)/);
      return true;
    });
  };
  const token = actionsToken([{ Scope: 'x', Permission: 3 }]);
  await fails(/401 Unauthorized: unauthorized$/, () => setup.put(Buffer.from('a'), setup.sink({ token })));
  const upload = setup.version === 1 ? /^\/_apis.*\/\d+$/ : /^\/signed\//;
  setup.server.fault = ({ path }) => (upload.test(path) ? { status: 403 } : undefined);
  await fails(/^unexpected status from (PATCH|PUT) request to .*: 403 Forbidden$/, () =>
    setup.put(Buffer.from('b')),
  );
  await fails(/403 Forbidden$/, () => setup.sink().putConfig(Buffer.from('c'), setup.context));
});

bothVersions('an export that is cancelled ends at once', async (setup) => {
  const stop = new AbortController();
  const context = { ...setup.context, signal: stop.signal };
  setup.server.fault = () => ({ silent: true });
  const data = Buffer.from('a');
  const found = setup.sink().has(layerOf(data), context);
  const saved = setup.sink().putConfig(data, context);
  const read = setup.origin().configs(1000, context);
  setTimeout(() => stop.abort(), 50);
  for (const work of [found, saved, read]) await assert.rejects(work, { name: 'AbortError' });
  setup.server.fault = () => ({ status: 429 });
  const waiting = new AbortController();
  const paused = setup.sink().has(layerOf(data), { ...setup.context, signal: waiting.signal });
  setTimeout(() => waiting.abort(), 50);
  await assert.rejects(paused, { name: 'AbortError' });
});

test('v2: an answer that is not ok', async () => {
  const answer = (body: unknown) => ({ status: 200, body: JSON.stringify(body) });
  await using setup = new Setup(await ActionsCache.start(), 2);
  const { server } = setup;
  server.fault = ({ path }) => (path.endsWith('CreateCacheEntry') ? answer({ ok: false }) : undefined);
  await assert.rejects(setup.put(Buffer.from('a')), /failed to reserve cache$/);
  let message = 'read-only for now';
  server.fault = ({ path }) =>
    path.endsWith('CreateCacheEntry') ? answer({ ok: false, message }) : undefined;
  await assert.rejects(setup.put(Buffer.from('a')), /failed to reserve cache: read-only for now$/);
  message = 'cache entry with the same key, version, and scope already exists';
  await setup.put(Buffer.from('a'));
  assert.equal(server.store.keys().length, 0, 'left to whoever has taken it');
  server.fault = ({ path }) => (path.endsWith('Upload') ? answer({ ok: false }) : undefined);
  await assert.rejects(setup.put(Buffer.from('a')), /failed to commit cache$/);
});
