import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Digest, digestHex, digestOf } from '../base/digest.ts';
import { notFound } from '../base/errors.ts';
import { mediaTypeOciIndex, mediaTypeOciManifest } from '../oci/media-types.ts';
import { hostPlatform, normalizePlatform, parsePlatform } from '../oci/platform.ts';
import { contentDirectory } from '../session/host/content-directory.ts';
import type { OpContext } from '../solver/types.ts';
import { LocalMounter } from '../store/local-mounter.ts';
import { openTestCache, tarOf } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { openTestStore, temporaryRoot } from '../testing/store.ts';
import { BlobSource, blobSpec } from './blob.ts';
import { ImageSource } from './image.ts';
import { ImageResolver } from './image-resolver.ts';
import { blobKey, imageConfigKey, imageManifestKey } from './keys.ts';
import { type FindLayoutBlob, layoutOrigin, ociLayoutSpec, readLayoutBlob } from './oci-layout.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';

/** A client's layout folder: an index of an image for each platform; `reads` counts what is asked for. */
class Layout implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'layout-'));
  readonly reads = new Map<Digest, number>();
  readonly layers: Digest[] = [];

  put(data: Uint8Array | string): { digest: Digest; size: number } {
    const digest = digestOf(data);
    mkdirSync(join(this.dir, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(this.dir, 'blobs/sha256', digestHex(digest)), data);
    return { digest, size: Buffer.byteLength(data) };
  }

  image(architecture: string): Record<string, unknown> {
    const tree = mkdtempSync(join(tmpdir(), 'tree-'));
    writeFileSync(join(tree, 'arch'), architecture);
    const layer = this.put(tarOf(tree));
    rmSync(tree, { recursive: true });
    this.layers.push(layer.digest);
    const rootfs = { type: 'layers', diff_ids: [layer.digest] };
    const config = this.put(JSON.stringify({ architecture, os: 'linux', rootfs }));
    const manifest = this.put(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypeOciManifest,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
        layers: [{ mediaType: LAYER, ...layer }],
      }),
    );
    return { mediaType: mediaTypeOciManifest, ...manifest, platform: { architecture, os: 'linux' } };
  }

  index(...architectures: string[]): Digest {
    const manifests = architectures.map((architecture) => this.image(architecture));
    return this.put(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypeOciIndex, manifests })).digest;
  }

  readonly find: FindLayoutBlob = async (digest) => {
    const content = contentDirectory(this.dir);
    const { size } = await content.info(digest);
    const counted: typeof content = {
      ...content,
      read: (asked, options) => {
        this.reads.set(asked, (this.reads.get(asked) ?? 0) + 1);
        return content.read(asked, options);
      },
    };
    return { store: counted, size };
  };

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true });
  }
}

async function bench() {
  const stack = new AsyncDisposableStack();
  const root = stack.use(temporaryRoot());
  const store = openTestStore(root.path);
  stack.defer(() => store.close());
  const refs = openTestCache(store);
  stack.defer(() => refs.close());
  const mounter = new LocalMounter(join(root.path, 'single-mounts'));
  const progress = { log: () => {}, status: () => {}, warn: () => {} };
  const context: OpContext = {
    signal: AbortSignal.timeout(20_000),
    progress,
    sessions: () => [],
    vertex: digestOf('step'),
  };
  const { content, leases } = store;
  const keys = { manifestKey: imageManifestKey, configKey: imageConfigKey };
  const images = { resolver: new ImageResolver({ content, leases }), refs, leases, content, keys };
  return { stack, refs, context, images, mounter };
}

test('identifiers and attributes', () => {
  const sum = `sha256:${'a'.repeat(64)}`;
  const attrs = { 'oci.session': 's', 'oci.store': 'st', 'oci.layerlimit': '2' };
  const spec = ociLayoutSpec(`not/real@${sum}`, attrs, parsePlatform('linux/arm64/v8'));
  assert.deepEqual(spec, {
    reference: { text: `not/real@${sum}`, digest: sum },
    place: { sessionId: 's', storeId: 'st' },
    platform: normalizePlatform(parsePlatform('linux/arm64')),
    recordType: 'regular',
    layerLimit: 2,
  });
  const refused: [string, Record<string, string>, RegExp][] = [
    ['real', {}, /object required/],
    ['/x:1', {}, /hostname required/],
    ['a://b', {}, /invalid reference/],
    ['a/b@sha256:12', {}, /invalid digest/],
    [`a/b@${sum}`, { 'oci.layerlimit': '0' }, /invalid layer limit 0/],
  ];
  for (const [text, more, message] of refused)
    assert.throws(() => ociLayoutSpec(text, more, undefined), message);
});

test('an image of the platform asked for, whose layer stays with the client until it is mounted', async () => {
  using layout = new Layout();
  const root = layout.index('amd64', 'arm64');
  const { stack, context, images } = await bench();
  await using _ = stack;
  for (const [platform, layer] of [
    ['linux/arm64', layout.layers[1]!],
    ['linux/amd64', layout.layers[0]!],
  ] as const) {
    const spec = ociLayoutSpec(`not/real@${root}`, {}, parsePlatform(platform));
    const source = new ImageSource(spec, () => layoutOrigin(spec.reference, layout.find), images);
    assert.equal((await source.cacheKey(0, context)).pin, root);
    await using ref = (await source.snapshot(context))!;
    assert.equal(layout.reads.get(layer), undefined);
    await using view = await ref.mount(true);
    const text = await withMounted(view.mounts, (dir) => readFileSync(join(dir, 'arch'), 'utf8'));
    assert.equal(`linux/${text}`, platform);
    assert.equal(layout.reads.get(layer), 1);
    assert.deepEqual(ref.record.imageRefs, [`not/real@${root}`]);
  }
});

test('what a layout lacks, or has wrong, is told', async () => {
  using layout = new Layout();
  const { stack, context, images } = await bench();
  await using _ = stack;
  const resolve = async (reference: string, find = layout.find): Promise<unknown> => {
    const spec = ociLayoutSpec(reference, {}, hostPlatform());
    return new ImageSource(spec, () => layoutOrigin(spec.reference, find), images).cacheKey(0, context);
  };
  await assert.rejects(resolve('not/real:tag'), /reference "not\/real:tag" must have digest/);
  const absent = digestOf('absent');
  await assert.rejects(
    resolve(`a/b@${absent}`),
    new RegExp(`^BuildError: unable to get info about digest: content ${absent}: not found`),
  );
  const { digest: other } = layout.put('no JSON');
  await assert.rejects(resolve(`a/b@${other}`), /contains neither an index nor a manifest/);
  const lying: FindLayoutBlob = async (digest, signal) => ({
    store: (await layout.find(other, signal)).store,
    size: digest.length,
  });
  const { digest: short } = layout.put('{}');
  await assert.rejects(resolve(`a/b@${short}`, lying), /is shorter than its 71 bytes/);
});

test('a reader gets no more than the blob has, and goes on where another stopped', async () => {
  using layout = new Layout();
  const { digest } = layout.put('0123456789');
  const { signal } = new AbortController();
  const read = async (size: number, offset: number): Promise<string> =>
    Buffer.concat(
      await Array.fromAsync(readLayoutBlob(layout.find, { digest, size }, offset, signal)),
    ).toString();
  assert.equal(await read(10, 4), '456789');
  await assert.rejects(read(9, 0), /is longer than its 9 bytes/);
});

test('a single blob becomes a file with the name, mode and owner asked for', async () => {
  using layout = new Layout();
  const { digest } = layout.put('blob');
  const { stack, refs, context, mounter } = await bench();
  await using _ = stack;
  const source = (attrs: Record<string, string>, body = (d: Digest) => layout.find(d, context.signal)) => {
    const spec = blobSpec('oci-layout+blob', `a/b@${digest}`, { 'oci.store': 'x', ...attrs });
    return new BlobSource(spec, {
      refs,
      key: blobKey,
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
      open: async function* () {
        yield* (await body(digest)).store.read(digest);
      },
    });
  };
  const look = async (attrs: Record<string, string>): Promise<unknown> => {
    await using ref = await source(attrs).snapshot(context);
    await using view = await ref.mount(true);
    return withMounted(view.mounts, (dir) => {
      const [name = ''] = readdirSync(dir);
      const { mode, uid, gid, mtimeMs } = statSync(join(dir, name));
      return [name, readFileSync(join(dir, name), 'utf8'), (mode & 0o777).toString(8), uid, gid, mtimeMs];
    });
  };
  assert.deepEqual(await look({}), [digestHex(digest), 'blob', '600', 0, 0, 0]);
  const attrs = { 'http.filename': '../f', 'http.perm': '0755', 'http.uid': '5', 'http.gid': '6' };
  assert.deepEqual(await look(attrs), ['f', 'blob', '755', 5, 6, 0]);
  // Other builders key blobs the same way.
  const key = `{"Digest":"${digest}","Filename":"f","Perm":493,"UID":5,"GID":6}`;
  assert.equal((await source(attrs).cacheKey()).key, digestOf(key));
  writeFileSync(join(layout.dir, 'blobs/sha256', digestHex(digest)), 'other');
  await assert.rejects(look({}), /unexpected digest of blob/);
  await assert.rejects(
    source({}, async () => {
      throw notFound('gone');
    }).snapshot(context),
    /gone/,
  );
  assert.throws(() => blobSpec('oci-layout+blob', `a/b@${digest}`, {}), /requires store id/);
  assert.throws(() => blobSpec('docker-image+blob', 'a/b:1', {}), /invalid reference digest/);
});
