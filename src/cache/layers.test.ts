import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { linkSync, lstatSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../base/digest.ts';
import { Code, hasCode } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { countedLayerJobs, openTestCache, packLayer, tarOf } from '../testing/cache.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { openTestStore, temporaryRoot, temporaryStore } from '../testing/store.ts';
import { MissingProvidersError } from './core.ts';
import type { BlobProvider, ImmutableRef } from './ref.ts';

interface Layer {
  readonly descriptor: Descriptor;
  readonly data: Uint8Array;
}

/** A gzip layer with one file. */
function layerWith(root: string, name: string, type: 'gzip' | 'zstd' = 'gzip'): Layer {
  const dir = join(root, `layer-${name}-${type}`);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, name), `content of ${name}`);
  const tar = tarOf(dir);
  const data = packLayer(tar, { type });
  return {
    data,
    descriptor: {
      mediaType: `application/vnd.oci.image.layer.v1.tar+${type}`,
      digest: digestOf(data),
      size: data.length,
      annotations: {
        'containerd.io/uncompressed': digestOf(tar),
        'containerd.io/distribution.source.registry.example': 'library/x',
        'else/where': 'not kept',
      },
    },
  };
}

/** Gives bytes in pieces and keeps count; `failAfter` breaks the first download at that many bytes. */
function providerOf(layer: Layer, failAfter?: number) {
  const seen = { opens: [] as number[], events: [] as string[], aborted: 0 };
  const provider: BlobProvider = {
    async *open(_descriptor, offset, { signal }) {
      seen.opens.push(offset);
      for (let at = offset; at < layer.data.length; at += 50) {
        await sleep(1);
        if (signal.aborted) seen.aborted++;
        signal.throwIfAborted();
        if (failAfter !== undefined && seen.opens.length === 1 && at >= failAfter)
          throw new Error('connection lost');
        yield layer.data.subarray(at, at + 50);
      }
    },
    progress: {
      download: (_digest, current, total, done) => void seen.events.push(`${current}/${total} ${done}`),
      extract: (_digest, done) => void seen.events.push(`extract ${done}`),
      combine: () => {},
    },
  };
  return { provider, seen };
}

async function cache(snapshotter?: string) {
  const fixture = await temporaryStore(snapshotter);
  const jobs = countedLayerJobs(fixture.store);
  const refs = openTestCache(fixture.store, jobs);
  return { ...fixture, jobs, refs, [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose]() };
}

async function names(ref: ImmutableRef): Promise<string[]> {
  await using mounts = await ref.mount(true);
  return withMounted(mounts.mounts, (dir) => readdirSync(dir).sort());
}

test('a lazy chain is downloaded and unpacked once for all who mount it', async () => {
  await using fixture = await cache();
  const { refs, root, jobs, content } = fixture;
  const [one, two] = [layerWith(root, 'one'), layerWith(root, 'two', 'zstd')];
  const [from1, from2] = [providerOf(one), providerOf(two)];
  const a = await refs.getByBlob(one.descriptor, undefined, {
    provider: from1.provider,
    description: 'pulled',
  });
  await using b = await refs.getByBlob(two.descriptor, a, { provider: from2.provider });
  await a.release();
  assert.deepEqual([...b.providers().keys()], [one.descriptor.digest, two.descriptor.digest]);
  assert.equal(from1.seen.opens.length, 0);
  assert.equal(await b.size(), 0);
  const seen = await Promise.all([names(b), names(b), names(b)]);
  for (const list of seen) assert.deepEqual(list, ['one', 'two']);
  assert.deepEqual(from1.seen.opens, [0]);
  assert.deepEqual(from2.seen.opens, [0]);
  assert.equal(jobs.calls.apply, 2);
  const { size } = one.descriptor;
  assert.ok(from1.seen.events.includes(`${size}/${size} true`));
  assert.deepEqual(from1.seen.events.slice(-2), ['extract false', 'extract true']);
  assert.equal(
    content.info(one.descriptor.digest)?.labels['containerd.io/uncompressed'],
    b.layerChain()[0]?.diffId,
  );
  assert.ok((await b.size()) > two.descriptor.size);
  assert.equal(b.providers().size, 0);
});

test('the same blobs give the same record, the same content the same snapshot', async () => {
  await using fixture = await cache();
  const { refs, root, jobs } = fixture;
  const [gzip, zstd] = [layerWith(root, 'same'), layerWith(root, 'same', 'zstd')];
  await using first = await refs.getByBlob(gzip.descriptor, undefined, {
    ...providerOf(gzip),
    imageRef: 'x:1',
  });
  await using again = await refs.getByBlob(gzip.descriptor, undefined, {
    ...providerOf(gzip),
    imageRef: 'x:2',
  });
  assert.equal(again.id, first.id);
  assert.deepEqual(first.record.imageRefs, ['x:1', 'x:2']);
  await using other = await refs.getByBlob(zstd.descriptor, undefined, { ...providerOf(zstd) });
  assert.notEqual(other.id, first.id);
  assert.equal(other.layerChain()[0]?.chainId, first.layerChain()[0]?.chainId);
  await Promise.all([names(first), names(other)]);
  assert.equal(jobs.calls.apply, 1);
});

test('a broken download resumes where it stopped, a wrong one is refused', async () => {
  await using fixture = await cache();
  const { refs, root, content } = fixture;
  const layer = layerWith(root, 'resumed');
  const { provider, seen } = providerOf(layer, 100);
  await using ref = await refs.getByBlob(layer.descriptor, undefined, { provider });
  await assert.rejects(ref.extract(), /connection lost/);
  await ref.extract();
  assert.deepEqual(seen.opens, [0, 100]);

  const wrong = { ...layerWith(root, 'wrong'), data: new Uint8Array(layerWith(root, 'wrong').data.length) };
  await using bad = await refs.getByBlob(wrong.descriptor, undefined, { ...providerOf(wrong) });
  await assert.rejects(bad.extract(), /unexpected commit digest/);
  const lying = layerWith(root, 'lying');
  const annotations = { 'containerd.io/uncompressed': digestOf('something else') };
  await using liar = await refs.getByBlob({ ...lying.descriptor, annotations }, undefined, {
    ...providerOf(lying),
  });
  await assert.rejects(liar.extract(), /unpacks to sha256:.*, expected/);
  assert.deepEqual(content.ingests(), []);
});

test('abort stops the work when nobody waits any more, and the next wait works', async () => {
  await using fixture = await cache();
  const { refs, root } = fixture;
  const layer = layerWith(root, 'aborted');
  const { provider, seen } = providerOf(layer);
  await using ref = await refs.getByBlob(layer.descriptor, undefined, { provider });
  const [one, two] = [new AbortController(), new AbortController()];
  const waits = [ref.extract({ signal: one.signal }), ref.extract({ signal: two.signal })];
  one.abort();
  await assert.rejects(waits[0]!, /abort/);
  assert.equal(seen.aborted, 0);
  two.abort();
  await assert.rejects(waits[1]!, /abort/);
  while (seen.aborted === 0) await sleep(1);
  const done = seen.events.length;
  await ref.extract();
  assert.equal(seen.opens.length, 2);
  assert.ok(seen.events.length > done);
});

test('a download goes on with the provider of another build when the first one ends', async () => {
  await using fixture = await cache();
  const { refs, root } = fixture;
  const layer = layerWith(root, 'lent');
  const opened = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<never>();
  const first: BlobProvider = {
    async *open() {
      yield layer.data.subarray(0, 100);
      opened.resolve();
      yield await gone.promise;
    },
  };
  const second = providerOf(layer);
  await using one = await refs.getByBlob(layer.descriptor, undefined, { provider: first });
  const extracted = one.extract();
  await opened.promise;
  await using two = await refs.getByBlob(layer.descriptor, undefined, { provider: second.provider });
  gone.reject(new Error('client gone'));
  await Promise.all([extracted, two.extract()]);
  assert.deepEqual(second.seen.opens, [100]);
  assert.deepEqual(await names(two), ['lent']);
});

test('a lazy ref without provider is a miss (F4)', async () => {
  await using root = temporaryRoot();
  const layer = layerWith(root.path, 'lazy');
  let id = '';
  {
    await using store = openTestStore(root.path);
    const refs = openTestCache(store);
    await using ref = await refs.getByBlob(layer.descriptor, undefined, { ...providerOf(layer) });
    id = ref.id;
    await assert.rejects(
      refs.getByBlob({ ...layer.descriptor, digest: digestOf('unknown') }, undefined),
      MissingProvidersError,
    );
    await assert.rejects(
      refs.getByBlob({ ...layer.descriptor, annotations: {} }, undefined, { ...providerOf(layer) }),
      /missing uncompressed annotation/,
    );
  }
  await using store = openTestStore(root.path);
  const refs = openTestCache(store);
  await assert.rejects(refs.get(id), (e) => {
    assert.ok(e instanceof MissingProvidersError);
    assert.match(e.message, /missing descriptor handlers/);
    return e.digests[0] === layer.descriptor.digest;
  });
  const providers = new Map([[layer.descriptor.digest, providerOf(layer).provider]]);
  await using ref = await refs.get(id, { providers });
  assert.deepEqual(await names(ref), ['lazy']);
});

async function stack(
  refs: Awaited<ReturnType<typeof cache>>['refs'],
  layers: readonly string[],
): Promise<ImmutableRef> {
  let top: ImmutableRef | undefined;
  for (const name of layers) {
    await using mutable = await refs.newMutable(top, {
      description: `step ${name}`,
      createdAt: new Date(1e12),
    });
    await using mounts = await mutable.mount(false);
    withMounted(mounts.mounts, (dir) => writeFileSync(join(dir, name), name));
    const next = await mutable.commit();
    await top?.release();
    top = next;
  }
  return top!;
}

test('blobs of a chain are made once, described, named and held by the lease', async () => {
  await using fixture = await cache();
  const { refs, jobs, content, leases, lease, store } = fixture;
  await using top = await stack(refs, ['a', 'b', 'c']);
  const options = { compression: { type: 'gzip', force: false }, lease } as const;
  await assert.rejects(top.ensureBlobs({ ...options, create: false }), (e) => hasCode(e, Code.notFound));
  const [first, second] = await Promise.all([top.ensureBlobs(options), top.ensureBlobs(options)]);
  assert.deepEqual(first, second);
  assert.equal(jobs.calls.diff, 3);
  assert.equal(first.length, 3);
  for (const [i, descriptor] of first.entries()) {
    assert.equal(descriptor.mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip');
    assert.equal(readFileSync(content.path(descriptor.digest)).length, descriptor.size);
    assert.deepEqual(descriptor.annotations, {
      'containerd.io/uncompressed': top.layerChain()[i]?.diffId,
      'buildkit/createdat': '2001-09-09T01:46:40Z',
      'buildkit/description': `step ${'abc'[i]}`,
    });
    assert.ok(leases.resources(lease).some((r) => r.id === descriptor.digest));
  }
  const chain = top.layerChain();
  assert.equal(chain[0]?.chainId, chain[0]?.diffId);
  assert.equal(chain[1]?.chainId, digestOf(`${chain[0]?.chainId} ${chain[1]?.diffId}`));
  assert.equal(chain[0]?.blobChainId, digestOf(`${chain[0]?.blob} ${chain[0]?.diffId}`));
  await store.gc();
  for (const { digest } of first) assert.ok(content.has(digest));
  // The same layers pulled from elsewhere are the same record.
  await using same = await refs.getByBlob(first[0]!, undefined);
  assert.equal(same.id, chain[0]?.recordId);
});

test('another compression converts when forced only, and each variant once', async () => {
  await using fixture = await cache();
  const { refs, jobs, content, lease, store } = fixture;
  await using top = await stack(refs, ['a', 'b']);
  const gzip = await top.ensureBlobs({ compression: { type: 'gzip', force: false }, lease });
  assert.deepEqual(await top.ensureBlobs({ compression: { type: 'zstd', force: false }, lease }), gzip);
  assert.equal(jobs.calls.convert, 0);
  const forced = { compression: { type: 'zstd', force: true }, lease } as const;
  const [zstd, again] = await Promise.all([top.ensureBlobs(forced), top.ensureBlobs(forced)]);
  assert.deepEqual(zstd, again);
  assert.equal(jobs.calls.convert, 2);
  for (const [i, descriptor] of zstd.entries()) {
    assert.equal(descriptor.mediaType, 'application/vnd.oci.image.layer.v1.tar+zstd');
    assert.notEqual(descriptor.digest, gzip[i]?.digest);
    assert.equal(
      descriptor.annotations?.['containerd.io/uncompressed'],
      gzip[i]?.annotations?.['containerd.io/uncompressed'],
    );
  }
  // Variants live as long as their record, and count for its size.
  fixture.leases.delete(lease);
  await store.gc();
  await top.ensureBlobs({ ...forced, lease: fixture.leases.hold().id });
  assert.equal(jobs.calls.convert, 2);
  const size = await top.size();
  assert.ok(size >= gzip[1]!.size + zstd[1]!.size + 4096, `${size}`);
  assert.ok(content.has(zstd[0]!.digest));
  assert.ok(store.leases.get(`${top.id}-variants`));
});

test('a pulled layer keeps its blob and origin for export', async () => {
  await using fixture = await cache();
  const { refs, root, jobs, lease, content } = fixture;
  const layer = layerWith(root, 'pulled');
  const { provider, seen } = providerOf(layer);
  await using ref = await refs.getByBlob(layer.descriptor, undefined, { provider, createdAt: new Date(0) });
  const [descriptor] = await ref.ensureBlobs({ compression: { type: 'gzip', force: false }, lease });
  assert.equal(descriptor?.digest, layer.descriptor.digest);
  assert.equal(descriptor?.annotations?.['containerd.io/distribution.source.registry.example'], 'library/x');
  assert.equal(descriptor?.annotations?.['else/where'], undefined);
  assert.equal(seen.opens.length, 0);
  await ref.ensureLocalBlobs();
  assert.ok(content.has(layer.descriptor.digest));
  assert.equal(jobs.calls.diff + jobs.calls.apply, 0);
});

test('a failing diff leaves nothing behind', async () => {
  await using fixture = await temporaryStore();
  const jobs = countedLayerJobs(fixture.store);
  const refs = openTestCache(fixture.store, {
    ...jobs,
    diff: async ({ output }) => {
      writeFileSync(output, 'half');
      throw new Error('disk full');
    },
  });
  await using top = await stack(refs, ['a']);
  await assert.rejects(
    top.ensureBlobs({ compression: { type: 'gzip', force: false }, lease: fixture.lease }),
    /disk full/,
  );
  assert.deepEqual(readdirSync(fixture.store.layout.tmp), ['mounts']);
});

for (const snapshotter of ['overlayfs', 'native'])
  test(`${snapshotter}: layers made here unpack elsewhere to the same tree, deletions included`, async () => {
    await using fixture = await cache(snapshotter);
    await using other = await cache(snapshotter);
    const { refs, lease } = fixture;
    await using base = await stack(refs, ['kept', 'gone']);
    await using mutable = await refs.newMutable(base);
    {
      await using mounts = await mutable.mount(false);
      withMounted(mounts.mounts, (dir) => {
        rmSync(join(dir, 'gone'));
        mkdirSync(join(dir, 'sub'));
        writeFileSync(join(dir, 'sub', 'new'), 'new');
        linkSync(join(dir, 'sub', 'new'), join(dir, 'linked'));
      });
    }
    await using top = await mutable.commit();
    const descriptors = await top.ensureBlobs({ compression: { type: 'zstd', force: false }, lease });
    let above: ImmutableRef | undefined;
    for (const descriptor of descriptors) {
      const provider: BlobProvider = {
        open: (d, offset, { signal }) => fixture.content.read(d.digest, { offset, signal }),
      };
      const next = await other.refs.getByBlob(descriptor, above, { provider });
      await above?.release();
      above = next;
    }
    await using mounts = await above!.mount(true);
    withMounted(mounts.mounts, (dir) => {
      assert.deepEqual(readdirSync(dir).sort(), ['kept', 'linked', 'sub']);
      assert.equal(lstatSync(join(dir, 'sub', 'new')).ino, lstatSync(join(dir, 'linked')).ino);
    });
    await above!.release();
  });

test('who comes while an abandoned download still clears away waits for it', async () => {
  await using fixture = await cache();
  const layer = layerWith(fixture.root, 'slow');
  const cleared = Promise.withResolvers<void>();
  let opens = 0;
  const provider: BlobProvider = {
    async *open(_descriptor, offset, { signal }) {
      if (opens++ > 0) return yield layer.data.subarray(offset);
      yield layer.data.subarray(0, 10);
      try {
        if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
        signal.throwIfAborted();
      } finally {
        await cleared.promise;
      }
    },
  };
  await using ref = await fixture.refs.getByBlob(layer.descriptor, undefined, { provider });
  const abort = new AbortController();
  const abandoned = ref.ensureLocalBlobs({ signal: abort.signal });
  while (opens === 0) await sleep(1);
  abort.abort();
  await assert.rejects(abandoned, /abort/);
  await sleep(5);
  const next = ref.ensureLocalBlobs();
  await sleep(5);
  assert.equal(opens, 1);
  cleared.resolve();
  await next;
  assert.equal(opens, 2);
});

test('a pruned record takes its variants along', async () => {
  await using fixture = await cache();
  const { refs, store, content } = fixture;
  const top = await stack(refs, ['a']);
  {
    using work = store.leases.hold();
    await top.ensureBlobs({ compression: { type: 'gzip', force: false }, lease: work.id });
    await top.ensureBlobs({ compression: { type: 'zstd', force: true }, lease: work.id });
  }
  await top.release();
  for await (const one of refs.prune([{ all: true }])) assert.ok(one.size > 4096);
  assert.deepEqual(
    store.leases.list().map((l) => l.id),
    [fixture.lease],
  );
  for await (const info of content.list()) assert.fail(info.digest);
});
