import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { parseReference } from '../oci/reference.ts';
import { hostPlatform } from '../oci/platform.ts';
import { anonymous } from '../registry/credentials.ts';
import { ImageSource } from '../source/image.ts';
import { registryOrigin } from '../source/image-origin.ts';
import { ImageResolver } from '../source/image-resolver.ts';
import { imageSourceSpec } from '../source/image-spec.ts';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { haveRegistry, startFaulty, startRegistry } from '../testing/registry.ts';
import { type Bench, bench, result, target } from '../testing/exporter.ts';
import { createExporter } from './create.ts';
import type { ExportSource } from './exporter.ts';

const CONFIG = JSON.stringify({ architecture: 'amd64', os: 'linux', config: { Cmd: ['/hello'] } });

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

const haveSkopeo = spawnSync('skopeo', ['--version']).status === 0;

async function twoLayers(b: Bench): Promise<ImmutableRef> {
  const base = await b.layer(undefined, (dir) => {
    writeFileSync(join(dir, 'a'), 'one');
    writeFileSync(join(dir, 'gone'), 'x');
  });
  return b.layer(base, (dir) => {
    rmSync(join(dir, 'gone'));
    mkdirSync(join(dir, 'sub'));
    writeFileSync(join(dir, 'sub/b'), 'two');
    symlinkSync('sub/b', join(dir, 'link'));
  });
}

test('oci archive: sorted entries, equal for equal input, readable by skopeo and umoci', async () => {
  await using b = await bench();
  const source = result(await twoLayers(b), { 'containerimage.config': CONFIG });
  const archives: Buffer[] = [];
  for (let i = 0; i < 2; i++) {
    const to = target();
    const attrs = { name: 'my/app:v1,other', 'source-date-epoch': '1700000000' };
    const exporter = createExporter('oci', attrs, b.services(), to);
    assert.equal(exporter.name, 'exporting to oci image format');
    const { response, release } = await exporter.export(source, b.context);
    release();
    assert.equal(response['image.name'], 'docker.io/my/app:v1,docker.io/library/other:latest');
    assert.match(response['containerimage.config.digest'] ?? '', /^sha256:/);
    const descriptor = JSON.parse(Buffer.from(response['containerimage.descriptor']!, 'base64').toString());
    assert.equal(descriptor.digest, response['containerimage.digest']);
    assert.equal(descriptor.annotations['org.opencontainers.image.created'], '2023-11-14T22:13:20Z');
    assert.deepEqual(descriptor.platform, { architecture: 'amd64', os: 'linux' });
    archives.push(to.files[0]!);
  }
  assert.ok(archives[0]!.equals(archives[1]!));
  const file = join(b.dir, 'oci.tar');
  writeFileSync(file, archives[0]!);
  const names = run('tar', '-tf', file).trim().split('\n');
  assert.deepEqual(names, [...names].sort());
  assert.deepEqual(names.slice(0, 2), ['blobs/', 'blobs/sha256/']);
  assert.deepEqual(names.slice(-2), ['index.json', 'oci-layout']);
  assert.equal(names.length, 2 + 4 + 2);
  const index = JSON.parse(run('tar', '-xOf', file, 'index.json'));
  assert.equal(index.mediaType, 'application/vnd.oci.image.index.v1+json');
  assert.equal(index.manifests.length, 2);
  assert.equal(index.manifests[0].annotations['org.opencontainers.image.ref.name'], 'v1');
  assert.ok(b.statuses.some((s) => s.startsWith('exporting manifest sha256:')));
  assert.ok(b.statuses.includes('sending tarball'));
  if (!haveSkopeo) return;
  const seen = JSON.parse(run('skopeo', 'inspect', '--config', `oci-archive:${file}:v1`));
  assert.equal(seen.created, '2023-11-14T22:13:20Z');
  assert.equal(seen.history[0].created_by, 'RUN fill');
  assert.equal(seen.history[0].created, '2023-11-14T22:13:20Z');
  const layout = join(b.dir, 'layout');
  mkdirSync(layout);
  run('tar', '-xf', file, '-C', layout);
  run('umoci', 'unpack', '--image', `${layout}:v1`, join(b.dir, 'bundle'));
  const rootfs = join(b.dir, 'bundle/rootfs');
  assert.deepEqual(readdirSync(rootfs).sort(), ['a', 'link', 'sub']);
  assert.equal(readFileSync(join(rootfs, 'link'), 'utf8'), 'two');
});

test('tar=false: every blob goes to the content store of the client, the manifest last', async () => {
  await using b = await bench();
  const ref = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'f'), 'content'));
  const source = result(ref, { 'containerimage.config': CONFIG });
  const caught = target();
  const { descriptor, release } = await createExporter('oci', { tar: 'false' }, b.services(), caught).export(
    source,
    b.context,
  );
  const manifest = JSON.parse(Buffer.from(await b.store.content.readAll(descriptor!.digest)).toString());
  release();
  const order = [...caught.blobs.keys()];
  assert.equal(order.at(-1), descriptor!.digest);
  assert.deepEqual(
    new Set(order),
    new Set([descriptor!.digest, manifest.config.digest, manifest.layers[0].digest]),
  );
  assert.equal(caught.blobs.get(manifest.layers[0].digest), manifest.layers[0].size);
  assert.equal(caught.files.length, 0);
});

test('docker archive has manifest.json and refuses several platforms', async () => {
  await using b = await bench();
  const source = result(await twoLayers(b), { 'containerimage.config': CONFIG });
  const to = target();
  const attrs = { name: 'app', 'oci-mediatypes': 'false' };
  const { release } = await createExporter('docker', attrs, b.services(), to).export(source, b.context);
  release();
  const file = join(b.dir, 'docker.tar');
  writeFileSync(file, to.files[0]!);
  const [entry] = JSON.parse(run('tar', '-xOf', file, 'manifest.json'));
  assert.deepEqual(entry.RepoTags, ['app:latest']);
  assert.equal(entry.Layers.length, 2);
  if (haveSkopeo) {
    const copied = join(b.dir, 'copied');
    run('skopeo', 'copy', '--insecure-policy', `docker-archive:${file}`, `oci:${copied}:x`);
  }
  const multi = { ...source, refs: new Map([['linux/amd64', source.ref]]) };
  await assert.rejects(
    createExporter('docker', {}, b.services(), to).export(multi, b.context),
    /^BuildError: docker exporter does not currently support exporting manifest lists$/,
  );
});

test('an empty result is an image without layers', async () => {
  await using b = await bench();
  const to = target();
  const attrs = { 'containerimage.config': '{"os":"linux","architecture":"riscv64"}' };
  const exporter = createExporter('oci', attrs, b.services(), to);
  const { release } = await exporter.export(result(null), b.context);
  release();
  const file = join(b.dir, 'empty.tar');
  writeFileSync(file, to.files[0]!);
  const index = JSON.parse(run('tar', '-xOf', file, 'index.json'));
  assert.equal(index.manifests[0].platform.architecture, 'riscv64');
  const hex = index.manifests[0].digest.slice(7);
  const manifest = run('tar', '-xOf', file, `blobs/sha256/${hex}`);
  assert.match(manifest, /"layers": null/);
});

function platformMapping(...ids: string[]): string {
  const Platforms = ids.map((ID) => {
    const [os, architecture] = ID.split('/');
    return { ID, Platform: { os, architecture } };
  });
  return JSON.stringify({ Platforms });
}

test('several platforms: an index, and a directory for each', async () => {
  await using b = await bench();
  const amd = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'arch'), 'amd64'));
  const arm = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'arch'), 'arm64'));
  const source: ExportSource = {
    ref: null,
    refs: new Map([
      ['linux/arm64', arm],
      ['linux/amd64', amd],
    ]),
    metadata: new Map([
      ['refs.platforms', Buffer.from(platformMapping('linux/arm64', 'linux/amd64'))],
      ['containerimage.config/linux/arm64', Buffer.from('{"os":"linux","architecture":"arm64"}')],
      ['containerimage.config', Buffer.from('{"os":"linux","architecture":"amd64"}')],
    ]),
  };
  const { response, descriptor, release } = await createExporter(
    'image',
    { name: 'x' },
    b.services(),
    target(),
  ).export(source, b.context);
  assert.equal(response['image.name'], 'x');
  assert.equal(response['containerimage.config.digest'], undefined);
  const index = JSON.parse(Buffer.from(await b.store.content.readAll(descriptor!.digest)).toString());
  release();
  assert.deepEqual(
    index.manifests.map((m: { platform: { architecture: string } }) => m.platform.architecture),
    ['arm64', 'amd64'],
  );
  const local = target();
  await createExporter('local', {}, b.services(), local).export(source, b.context);
  assert.deepEqual(Object.fromEntries(local.tree), {
    linux_amd64: '',
    'linux_amd64/arch': 'amd64',
    linux_arm64: '',
    'linux_arm64/arch': 'arm64',
  });
  assert.deepEqual(
    local.transfers.map(({ paths, deleteOthers }) => [paths[0], paths.length, deleteOthers]),
    [
      ['linux_arm64', 2, false],
      ['linux_amd64', 2, false],
    ],
  );
  assert.ok(
    b.statuses.includes('copying files linux/amd64') && b.statuses.includes('copying files linux/arm64'),
  );
  const mirror = target();
  await createExporter('local', { mode: 'delete' }, b.services(), mirror).export(source, b.context);
  assert.deepEqual(mirror.transfers, [{ paths: [...local.tree.keys()].sort(), deleteOthers: true }]);
  const failing = target({ sendDirectory: () => Promise.reject(new Error('the disk is full')) });
  await assert.rejects(
    createExporter('local', {}, b.services(), failing).export(source, b.context),
    /disk is full/,
  );
  await assert.rejects(
    createExporter('local', { 'platform-split': 'false' }, b.services(), target()).export(source, b.context),
    /cannot overwrite arch from linux\/arm64 with linux\/amd64 when split option is disabled/,
  );
  const { metadata: _, ...bare } = source;
  await assert.rejects(
    createExporter('oci', {}, b.services(), target()).export({ ...bare, metadata: new Map() }, b.context),
    /unable to export multiple refs, missing platforms mapping/,
  );
});

test('tar: a tree as one archive, with the epoch as its time', async () => {
  await using b = await bench();
  const to = target();
  const exporter = createExporter('tar', { 'source-date-epoch': '1700000000' }, b.services(), to);
  await exporter.export(result(await twoLayers(b)), b.context);
  const file = join(b.dir, 'tree.tar');
  writeFileSync(file, to.files[0]!);
  const out = join(b.dir, 'out');
  mkdirSync(out);
  run('tar', '-xf', file, '-C', out);
  assert.equal(readFileSync(join(out, 'link'), 'utf8'), 'two');
  const list = run('tar', '--utc', '-tvf', file);
  assert.equal(list.trim().split('\n').length, 4);
  for (const line of list.trim().split('\n')) assert.match(line, /2023-11-14 22:13/);
});

test('bad attributes are refused by name', () => {
  const make = (type: string, attrs: Record<string, string>) => () =>
    createExporter(type, attrs, {} as never, target());
  assert.throws(make('nope', {}), /exporter "nope" could not be found/);
  assert.throws(make('oci', { compression: 'lzma' }), /unsupported compression type lzma/);
  assert.throws(
    make('oci', { compression: 'estargz', 'oci-mediatypes': 'false' }),
    /exporter option "compression=estargz" conflicts with "oci-mediatypes=false"/,
  );
  assert.throws(make('oci', { tar: 'maybe' }), {
    message: 'non-bool value specified for tar: strconv.ParseBool: parsing "maybe": invalid syntax',
  });
  assert.throws(make('image', { push: 'x' }), /^BuildError: non-bool value specified for push: strconv/);
  assert.throws(make('oci', { 'compression-level': 'x' }), {
    message:
      'non-integer value x specified for compression-level: strconv.ParseInt: parsing "x": invalid syntax',
  });
  assert.throws(
    make('oci', { 'force-compression': 'x' }),
    /non-bool value x specified for force-compression: /,
  );
  assert.throws(make('local', { 'platform-split': 'x' }), /non-bool value for platform-split: x: strconv/);
  assert.throws(
    make('tar', { 'source-date-epoch': 'x' }),
    /invalid source-date-epoch: strconv.ParseInt: .* invalid syntax: strconv.ParseInt: /,
  );
  assert.throws(
    make('image', { 'oci-artifact': 'true', 'oci-mediatypes': 'false' }),
    /"oci-artifact=true" conflicts with "oci-mediatypes=false"/,
  );
  assert.throws(make('image', { 'annotation-x.a': 'b' }), /unrecognized annotation type x/);
});

function imageSource(b: Bench, ref: string, over: Record<string, string> = {}): ImageSource {
  const { content, leases } = b.store;
  const spec = imageSourceSpec(ref, over, undefined);
  const origin = () => registryOrigin(spec.reference, { registry: b.registry, credentials: anonymous });
  return new ImageSource(spec, origin, {
    resolver: new ImageResolver({ content, leases }),
    refs: b.refs,
    leases,
    content,
    keys: {
      manifestKey: (input) => digestOf(`m${input.digest}`),
      configKey: (ids, limit) => digestOf(`c${ids.slice(0, limit).join()}`),
    },
  });
}

test('an image is pushed, its layers stay lazy in the next store, and go on by mount', {
  skip: !haveRegistry,
}, async () => {
  await using server = await startRegistry();
  await using proxy = await startFaulty(server.host, () => undefined);
  let pushed: Digest;
  {
    await using b = await bench();
    const { architecture } = hostPlatform();
    const config = JSON.stringify({ architecture, os: 'linux' });
    const source = result(await twoLayers(b), { 'containerimage.config': config });
    const attrs = { name: `${proxy.host}/one/app:v1`, push: 'true' };
    const out = await createExporter('image', attrs, b.services(), target()).export(source, b.context);
    assert.equal(proxy.seen.length, 0, 'pushed before finalize');
    await out.finalize!(b.context);
    out.release();
    pushed = out.descriptor!.digest;
    assert.ok(b.statuses.includes('pushing layers'));
    assert.ok(b.statuses.includes(`pushing manifest for ${proxy.host}/one/app:v1@${pushed}`));
    const byDigest = { name: `${proxy.host}/one/app:v1`, push: 'true', 'push-by-digest': 'true' };
    const refused = await createExporter('image', byDigest, b.services(), target()).export(source, b.context);
    await assert.rejects(refused.finalize!(b.context), /can't push tagged ref .*\/one\/app:v1 by digest/);
    refused.release();
  }
  await using b = await bench();
  const ref = `${proxy.host}/one/app:v1`;
  const source = imageSource(b, ref);
  const first = await source.cacheKey(0, b.context);
  assert.deepEqual(first, { key: digestOf(`m${pushed}`), pin: pushed, done: false });
  assert.equal((await source.cacheKey(1, b.context)).done, true);
  await using image = (await source.snapshot(b.context))!;
  const layerGets = () => proxy.seen.filter((r) => r.method === 'GET' && r.url.includes('/blobs/')).length;
  assert.equal(layerGets(), 1, 'only the config is fetched');
  assert.ok(b.statuses.includes(`resolve ${ref}`));

  const again = { name: `${proxy.host}/two/app:v2`, push: 'true' };
  const config = JSON.stringify({ architecture: 'amd64', os: 'linux' });
  const out = await createExporter('image', again, b.services(), target()).export(
    result(image, { 'containerimage.config': config }),
    b.context,
  );
  await out.finalize!(b.context);
  out.release();
  assert.equal(layerGets(), 1, 'mounted, not downloaded');
  assert.equal(proxy.seen.filter((r) => r.url.includes('mount=')).length, 2);

  await image.extract({ signal: b.context.signal });
  await using view = await image.mount(true);
  withMounted(view.mounts, (dir) => assert.deepEqual(readdirSync(dir).sort(), ['a', 'link', 'sub']));
  assert.equal(layerGets(), 3);
  const reference = parseReference(`${proxy.host}/two/app:v2`);
  const found = await b.registry.resolve(reference, { credentials: anonymous, signal: b.context.signal });
  assert.equal(found.digest, out.descriptor!.digest);
});

test('image source: checksum and layer limit', { skip: !haveRegistry }, async () => {
  await using server = await startRegistry();
  await using b = await bench();
  const ref = `${server.host}/app:v1`;
  const { architecture } = hostPlatform();
  const config = JSON.stringify({ architecture, os: 'linux' });
  const source = result(await twoLayers(b), { 'containerimage.config': config });
  const out = await createExporter('image', { name: ref, push: 'true' }, b.services(), target()).export(
    source,
    b.context,
  );
  await out.finalize!(b.context);
  out.release();
  const limited = imageSource(b, ref, { 'image.layerlimit': '1' });
  await using one = (await limited.snapshot(b.context))!;
  assert.equal(one.layerChain().length, 1);
  await assert.rejects(
    imageSource(b, ref, { 'image.layerlimit': '3' }).cacheKey(0, b.context),
    /layer limit 3 is greater than the number of layers in the image 2/,
  );
  const wrong = digestOf('wrong');
  await assert.rejects(
    imageSource(b, ref, { 'image.checksum': wrong }).cacheKey(0, b.context),
    new RegExp(`image digest ${out.descriptor!.digest} for .* does not match expected checksum ${wrong}`),
  );
  assert.throws(() => imageSourceSpec('a', { 'image.layerlimit': '0' }, undefined), /invalid layer limit 0/);
  assert.throws(
    () => imageSourceSpec('a', { 'image.resolvemode': 'x' }, undefined),
    /invalid resolvemode: x/,
  );
});

test('what was resolved stays for the next build until it is forgotten', {
  skip: !haveRegistry,
}, async () => {
  await using server = await startRegistry();
  await using b = await bench();
  const { content, leases } = b.store;
  const { architecture } = hostPlatform();
  const config = JSON.stringify({ architecture, os: 'linux' });
  const ref = `${server.host}/app:v1`;
  const made = result(await twoLayers(b), { 'containerimage.config': config });
  const out = await createExporter('image', { name: ref, push: 'true' }, b.services(), target()).export(
    made,
    b.context,
  );
  await out.finalize!(b.context);
  out.release();
  await b.store.gc();
  const kept = (await Array.fromAsync(content.list())).length;
  const resolver = new ImageResolver({ content, leases });
  const origin = registryOrigin(parseReference(ref), { registry: b.registry, credentials: anonymous });
  const { descriptor } = out;
  for (let builds = 0; builds < 2; builds++) {
    await resolver.resolve(origin, hostPlatform(), b.context.signal);
    await b.store.gc();
    assert.ok(content.info(descriptor!.digest));
    resolver.forget();
    await b.store.gc();
    assert.equal((await Array.fromAsync(content.list())).length, kept);
  }
});

test('layers that come broken or wrong: the first is mended, the second refused', {
  skip: !haveRegistry,
}, async () => {
  await using server = await startRegistry();
  let layers: readonly Digest[];
  let size = 0;
  {
    await using b = await bench();
    const { architecture } = hostPlatform();
    const config = JSON.stringify({ architecture, os: 'linux' });
    const ref = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'big'), randomBytes(400_000)));
    const attrs = { name: `${server.host}/app:v1`, push: 'true' };
    const source = result(ref, { 'containerimage.config': config });
    const out = await createExporter('image', attrs, b.services(), target()).export(source, b.context);
    await out.finalize!(b.context);
    out.release();
    layers = ref.layerChain().map((l) => l.blob!);
    size = b.store.content.info(layers[0]!)!.size;
  }
  const isLayer = (url: string): boolean => layers.some((digest) => url.endsWith(digest));
  for (const kind of ['cut', 'wrong'] as const) {
    await using b = await bench();
    let bad = 0;
    await using proxy = await startFaulty(server.host, ({ url }) => {
      if (!isLayer(url)) return undefined;
      if (kind === 'cut') return bad++ === 0 ? { cutAfter: 100_000 } : undefined;
      bad++;
      return { status: 200, body: 'x'.repeat(size) };
    });
    await using image = (await imageSource(b, `${proxy.host}/app:v1`).snapshot(b.context))!;
    if (kind === 'cut') {
      await image.extract({ signal: b.context.signal });
      assert.equal(proxy.seen.filter((r) => isLayer(r.url)).length, 2);
      continue;
    }
    await assert.rejects(image.extract({ signal: AbortSignal.timeout(30_000) }), (error: Error) => {
      assert.match(error.message, /digest/);
      assert.equal(bad, 1, 'asked once');
      return true;
    });
  }
});

test('annotations go where their keys say', async () => {
  await using b = await bench();
  const ref = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'f'), 'f'));
  const attrs = {
    'annotation.all': '1',
    'annotation[linux/arm64].own': '2',
    'annotation-manifest-descriptor[linux/arm64].entry': '3',
    'annotation-index.index': '4',
    'annotation-index-descriptor.root': '5',
  };
  const source: ExportSource = {
    ref: null,
    refs: new Map([
      ['linux/amd64', ref],
      ['linux/arm64', ref],
    ]),
    metadata: new Map([
      ['refs.platforms', Buffer.from(platformMapping('linux/amd64', 'linux/arm64'))],
      ['annotation.frontend', Buffer.from('6')],
    ]),
  };
  const run = (a: Record<string, string>, s: ExportSource) =>
    createExporter('image', a, b.services(), target()).export(s, b.context);
  const { descriptor, release } = await run(attrs, source);
  const read = async (digest: Digest) =>
    JSON.parse(Buffer.from(await b.store.content.readAll(digest)).toString());
  const index = await read(descriptor!.digest);
  assert.deepEqual(descriptor!.annotations, { root: '5' });
  assert.deepEqual(index.annotations, { index: '4' });
  assert.deepEqual(
    index.manifests.map((m: { annotations?: unknown }) => m.annotations),
    [undefined, { entry: '3' }],
  );
  assert.deepEqual((await read(index.manifests[0].digest)).annotations, { all: '1', frontend: '6' });
  const arm = await read(index.manifests[1].digest);
  assert.deepEqual(arm.annotations, { all: '1', frontend: '6', own: '2' });
  release();
  const fails = (a: Record<string, string>, s: ExportSource, message: RegExp) =>
    assert.rejects(run(a, s), message);
  const single = result(ref, { 'containerimage.config': CONFIG });
  await fails(attrs, single, /index annotations not supported for single platform export/);
  await fails(
    { 'annotation[linux/s390x].a': 'b' },
    source,
    /invalid annotation: no platform linux\/s390x found/,
  );
  await fails(
    { 'annotation-index.a': 'b', 'oci-mediatypes': 'false' },
    source,
    /cannot export annotations with/,
  );
});
