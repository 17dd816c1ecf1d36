import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { haveRegistry, startFaulty, startRegistry, type TestServer } from '../testing/registry.ts';
import { TokenServer } from '../testing/token-server.ts';
import {
  checkImage,
  copyImage,
  type Descriptor,
  digestOf,
  dockerLogins,
  encodeManifest,
  type ImageLocation,
  isNotFound,
  Layout,
  mediaTypes,
  parsePlatform,
  readImage,
  RegistryClient,
  type RegistryClientOptions,
  validateImage,
  type WriteResult,
} from './index.ts';

const skip = haveRegistry ? false : 'docker-registry is not installed';
const dir = mkdtempSync(join(tmpdir(), 'images-'));
const clients: RegistryClient[] = [];
let real: TestServer;

function clientOf(options?: RegistryClientOptions): RegistryClient {
  const client = new RegistryClient(options);
  clients.push(client);
  return client;
}

before(async () => {
  if (haveRegistry) real = await startRegistry();
});
after(async () => {
  for (const client of clients) await client.close();
  await real?.[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

interface Change {
  readonly config?: (config: Record<string, unknown>) => object;
  readonly layer?: (layer: Descriptor) => Descriptor;
}

/** An image of one layer for one platform, without a name. */
async function onePlatform(layout: Layout, platform: string, change: Change = {}): Promise<Descriptor> {
  const { os, architecture } = parsePlatform(platform);
  const tar = Buffer.alloc(20_480, platform);
  const packed = architecture === 'arm64' ? zstdCompressSync(tar) : gzipSync(tar);
  const type = architecture === 'arm64' ? mediaTypes.ociLayerZstd : mediaTypes.ociLayerGzip;
  const layer = await layout.put(type, packed);
  const rootfs = { type: 'layers', diff_ids: [digestOf(tar)] };
  const plain = { architecture, os, rootfs, history: [{ created_by: 'COPY' }] };
  const config = await layout.put(
    mediaTypes.ociConfig,
    Buffer.from(JSON.stringify(change.config?.(plain) ?? plain)),
  );
  const mediaType = mediaTypes.ociManifest;
  const layers = [change.layer?.(layer) ?? layer];
  const manifest = await layout.put(
    mediaType,
    encodeManifest({ kind: 'manifest', mediaType, config, layers }),
  );
  return { ...manifest, platform: parsePlatform(platform) };
}

async function twoPlatforms(name: string): Promise<Layout> {
  const layout = new Layout(join(dir, name));
  const manifests = [await onePlatform(layout, 'linux/amd64'), await onePlatform(layout, 'linux/arm64')];
  const mediaType = mediaTypes.ociIndex;
  const data = encodeManifest({ kind: 'index', mediaType, manifests });
  const root = { mediaType, digest: digestOf(data), size: data.length };
  await layout.image('v1').publish(root, data);
  return layout;
}

const readIn = (place: ImageLocation) => ({ read: (descriptor: Descriptor) => place.readAll(descriptor) });

test('an image is made in a folder, read, copied to a registry, within it and back', { skip }, async () => {
  const layout = await twoPlatforms('first');
  const image = layout.image('v1');
  const root = await image.resolve();
  const { images } = await checkImage(root, readIn(image));
  assert.deepEqual(
    images.map(({ descriptor }) => descriptor.platform?.architecture),
    ['amd64', 'arm64'],
  );
  const client = clientOf();
  const there = client.image(`${real.host}/some/image:v1`);
  await assert.rejects(there.resolve(), isNotFound);
  const copied = await copyImage(image, there);
  assert.deepEqual(copied.root, root);
  assert.equal(copied.sent, 7);
  const again = await copyImage(image, there);
  assert.deepEqual([again.sent, again.sentBytes], [0, 0]);
  assert.deepEqual(await there.resolve(), root);

  const hows: WriteResult[] = [];
  const other = client.image(`${real.host}/other/image:v2`);
  const mounted = await copyImage(there, other, { onCopied: (_blob, how) => hows.push(how) });
  assert.equal(hows.filter((how) => how === 'mounted').length, 4);
  assert.equal(mounted.sent, 3);

  const back = new Layout(join(dir, 'back'));
  await copyImage(other, back.image('docker.io/library/x:v2'), { platform: 'linux/arm64' });
  const found = await readImage(back.image('v2'), { platform: 'linux/arm64' });
  assert.equal(found.config.architecture, 'arm64');
  assert.equal(found.index, undefined);
  const all = await readImage(other, { platform: 'linux/amd64' });
  assert.equal(all.config.rootfs.diff_ids?.length, 1);
  assert.equal(all.index?.manifests.length, 2);
  await assert.rejects(readImage(other, { platform: 'linux/s390x' }), /no match for platform linux\/s390x/);
});

test('logins of the docker configuration, and tokens that end between two blobs', { skip }, async () => {
  const tokens = new TokenServer({ lifeMs: 60_000, login: 'ann:secret' });
  const seen = new Set<string>();
  await using server = await startFaulty(real.host, (request) => {
    if (request.method === 'PUT' && !seen.has(request.url)) tokens.revoke();
    seen.add(request.url);
    return tokens.fault(request);
  });
  const auth = Buffer.from('ann:secret').toString('base64');
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ auths: { [server.host]: { auth } } }));
  const layout = await twoPlatforms('login');
  const client = clientOf({ login: dockerLogins(dir) });
  const there = client.image(`${server.host}/closed/image`);
  await copyImage(layout.image(), there);
  assert.ok(tokens.issued > 1 && tokens.refused > 0);
  const nobody = clientOf({ login: () => undefined });
  await assert.rejects(nobody.image(`${server.host}/closed/image`).resolve(), /401|authorization failed/);
});

test('a folder refuses content that is not what it is called', async () => {
  const layout = new Layout(join(dir, 'refused'));
  const data = randomBytes(1000);
  const descriptor = { mediaType: 'x/y', digest: digestOf(data), size: data.length };
  const wrong = async function* () {
    yield data.subarray(1);
  };
  await assert.rejects(layout.write(descriptor, wrong), /is sha256:/);
  assert.equal(await layout.has(descriptor), false);
  await layout.put('x/y', data);
  const path = join(layout.path, 'blobs', descriptor.digest.replace(':', '/'));
  writeFileSync(path, randomBytes(1000));
  await assert.rejects(layout.image().readAll(descriptor), /is sha256:/);
});

test('names: the newest of a tag, the last without one, digests and full names', async () => {
  const layout = new Layout(join(dir, 'names'));
  const mediaType = mediaTypes.ociManifest;
  const publish = async (tag: string | undefined, text: string): Promise<string> => {
    const data = Buffer.from(JSON.stringify({ text }));
    await layout.image(tag).publish({ mediaType, digest: digestOf(data), size: data.length }, data);
    return digestOf(data);
  };
  const find = async (tag?: string): Promise<string> => (await layout.image(tag).resolve()).digest;
  await assert.rejects(find('a'), isNotFound);
  await publish('a', '1');
  const second = await publish('a', '2');
  assert.equal(await find('a'), second);
  assert.equal(layout.images().length, 1);
  const named = await publish('docker.io/library/x:b', '3');
  assert.deepEqual(
    [await find('b'), await find('docker.io/library/x:b'), await find()],
    Array(3).fill(named),
  );
  const last = await publish(undefined, '4');
  assert.deepEqual([await find(), await find(last)], [last, last]);
  assert.equal(readFileSync(join(layout.path, 'oci-layout'), 'utf8'), '{"imageLayoutVersion":"1.0.0"}');
});

test('what does not agree is reported, all of it', async () => {
  const problemsOf = async (change: Change, after?: (layout: Layout, root: Descriptor) => void) => {
    const layout = new Layout(mkdtempSync(join(dir, 'broken-')));
    const root = await onePlatform(layout, 'linux/amd64', change);
    after?.(layout, root);
    const { problems } = await validateImage(root, {
      read: async (descriptor) =>
        readFileSync(join(layout.path, 'blobs', descriptor.digest.replace(':', '/'))),
    });
    return problems.map((problem) =>
      problem
        .replaceAll(/[0-9a-f]{64}/g, '…')
        .replaceAll(/\d+ bytes instead of \d+/g, 'N bytes instead of M'),
    );
  };
  assert.deepEqual(await problemsOf({}), []);
  const diffId = `sha256:${'0'.repeat(64)}`;
  assert.deepEqual(
    await problemsOf({
      config: (config) => ({
        ...config,
        architecture: 'arm',
        rootfs: { type: 'layers', diff_ids: [diffId] },
        history: [{}, {}],
      }),
      layer: (layer) => ({ ...layer, size: layer.size + 1, mediaType: mediaTypes.dockerLayerGzip }),
    }),
    [
      'sha256:… is for linux/amd64, its config for linux/arm',
      'layer sha256:… has type application/vnd.docker.image.rootfs.diff.tar.gzip',
      'sha256:… has a history of 2 layers instead of 1',
    ],
  );
  assert.deepEqual(
    await problemsOf({
      config: (config) => ({
        ...config,
        rootfs: { type: 'layers', diff_ids: [diffId, diffId] },
        history: [],
      }),
      layer: (layer) => ({ ...layer, size: layer.size + 1 }),
    }),
    [
      'sha256:… has 1 layers and 2 diff IDs',
      'sha256:… has N bytes instead of M',
      'layer sha256:… unpacks to sha256:… and not to sha256:…',
    ],
  );
  assert.deepEqual(
    await problemsOf({ layer: (layer) => ({ ...layer, mediaType: mediaTypes.ociLayerZstd }) }),
    ['layer sha256:… does not unpack: Unknown frame descriptor'],
  );
  const cut = (layout: Layout, { digest }: Descriptor): void =>
    writeFileSync(join(layout.path, 'blobs', digest.replace(':', '/')), '{}');
  assert.match((await problemsOf({}, cut)).join(), /^sha256:… has N bytes instead of M,sha256:… is in truth/);
});
