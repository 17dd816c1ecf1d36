// Images and caches in estargz, out into a registry and back. The images are checked by the harness, too.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { Daemon, digest, Registry, TempDir } from './harness.ts';

interface Layer {
  readonly mediaType: string;
  readonly digest: string;
  readonly annotations?: Record<string, string>;
}

const TOC = 'containerd.io/snapshot/stargz/toc.digest';
const SIZE = 'io.containers.estargz.uncompressed-size';
const FORCED = 'compression=estargz,force-compression=true';

let registry: Registry;
let daemon: Daemon;
let other: Daemon;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({ config: registry.config });
  other = await Daemon.start({ config: registry.config });
  dir.write({
    'ctx/Dockerfile':
      'FROM busybox\nRUN mkdir /d && echo made >/d/file && ln -s file /d/link && ln /d/file /d/hard\n' +
      'RUN head -c 9000000 /dev/urandom >/large\nCOPY Dockerfile /copied\n',
    'run/Dockerfile': `FROM ${registry.host}/app\nRUN test "$(cat /d/link)" = made && test -s /copied && wc -c </large >/size\n`,
  });
});

after(async () => {
  await other?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

async function layersOf(name: string): Promise<readonly Layer[]> {
  return (await registry.manifest(name, 'latest')).layers as readonly Layer[];
}

async function blob(name: string, id: string): Promise<Buffer> {
  const answer = await fetch(`http://${registry.host}/v2/${name}/blobs/${id}`);
  assert.equal(answer.status, 200);
  return Buffer.from(await answer.arrayBuffer());
}

const pushed = (name: string, attrs = ''): string[] => [
  '--output',
  `type=image,name=${registry.host}/${name},push=true${attrs && `,${attrs}`}`,
];

/** The table of contents, found by the last bytes of the blob. */
function tableOf(bytes: Buffer): Buffer {
  assert.equal(bytes.toString('latin1', bytes.length - 19, bytes.length - 13), 'STARGZ');
  const place = bytes.toString('latin1', bytes.length - 35, bytes.length - 19);
  const archive = gunzipSync(bytes.subarray(Number.parseInt(place, 16)));
  assert.equal(archive.toString('latin1', 0, 17), 'stargz.index.json');
  return archive.subarray(512, 512 + Number.parseInt(archive.toString('latin1', 124, 135), 8));
}

async function isEstargz(name: string): Promise<readonly Layer[]> {
  const layers = await layersOf(name);
  for (const { mediaType, digest: id, annotations } of layers) {
    assert.equal(mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip');
    const bytes = await blob(name, id);
    const table = tableOf(bytes);
    assert.deepEqual(annotations, { [TOC]: digest(table), [SIZE]: String(gunzipSync(bytes).length) });
  }
  return layers;
}

test('an image of estargz layers has tables of contents, and each file can be read alone', async () => {
  await daemon.build(dir.join('ctx'), pushed('app', FORCED));
  const layers = await isEstargz('app');
  assert.equal(layers.length, 4);
  const bytes = await blob('app', layers[2]!.digest);
  const { entries } = JSON.parse(tableOf(bytes).toString());
  const pieces = entries.filter(({ name }: { name: string }) => name === 'large');
  assert.deepEqual(
    pieces.map((one: Record<string, unknown>) => [one.type, one.chunkOffset ?? 0]),
    [
      ['reg', 0],
      ['chunk', 4 << 20],
      ['chunk', 8 << 20],
    ],
  );
  const whole = createHash('sha256');
  for (const { offset, chunkOffset = 0, chunkSize = 9_000_000 - chunkOffset, chunkDigest } of pieces) {
    const piece = gunzipSync(bytes.subarray(offset)).subarray(0, chunkSize);
    assert.equal(digest(piece), chunkDigest);
    whole.update(piece);
  }
  assert.equal(`sha256:${whole.digest('hex')}`, pieces[0].digest);
});

test('it is pulled, run and pushed again as it is, and comes back as gzip or zstd', async () => {
  const layers = await layersOf('app');
  // The daemon that made it, and one that has never seen it.
  for (const one of [daemon, other]) {
    await one.build(dir.join('run'), pushed('again', FORCED));
    assert.deepEqual((await isEstargz('again')).slice(0, 4), layers);
    await one.build(dir.join('run'), pushed('kept'));
    assert.deepEqual((await layersOf('kept')).slice(0, 4), layers);
    for (const compression of ['gzip', 'zstd', 'uncompressed']) {
      await one.build(dir.join('run'), pushed('plain', `compression=${compression},force-compression=true`));
      for (const { annotations, digest: id } of await layersOf('plain')) {
        assert.equal(annotations, undefined);
        assert.ok(!(await blob('plain', id)).includes('STARGZ'));
      }
    }
  }
});

test('what gzip layers become is the same archive', async () => {
  await daemon.build(dir.join('ctx'), pushed('gzip', 'compression=gzip,force-compression=true'));
  const gzip = await layersOf('gzip');
  for (const [i, { digest: id }] of (await layersOf('app')).entries()) {
    const archive = gunzipSync(await blob('gzip', gzip[i]!.digest));
    const unpacked = gunzipSync(await blob('app', id));
    assert.ok(unpacked.subarray(0, archive.length).equals(archive));
    assert.equal(unpacked.toString('latin1', archive.length, archive.length + 17), 'stargz.index.json');
  }
});

test('archives of it are images, too, and Docker media types are refused', async () => {
  for (const type of ['oci', 'docker'])
    await daemon.build(dir.join('ctx'), [
      '--output',
      `type=${type},name=x,dest=${dir.join(`${type}.tar`)},${FORCED},compression-level=9`,
    ]);
  assert.ok(readFileSync(dir.join('oci.tar')).includes('toc.digest'));
  const { code, stderr } = await daemon.tryBuild(
    dir.join('ctx'),
    pushed('refused', 'compression=estargz,oci-mediatypes=false'),
  );
  assert.equal(code, 1);
  assert.match(stderr, /exporter option "compression=estargz" conflicts with "oci-mediatypes=false"/);
});

test('caches of estargz layers are used by an empty daemon, and keep their annotations', async () => {
  const ref = `${registry.host}/cache`;
  await daemon.build(dir.join('ctx'), [
    ...['--export-cache', `type=registry,ref=${ref},mode=max,${FORCED}`],
    ...['--export-cache', `type=local,dest=${dir.join('cache')},mode=max,${FORCED}`],
    ...['--export-cache', 'type=inline', ...pushed('inline', FORCED)],
  ]);
  const made = await layersOf('inline');
  const named = (layers: readonly Layer[]): string[] =>
    layers.map(({ digest: id, annotations }) => `${id} ${annotations?.[TOC]} ${annotations?.[SIZE]}`).sort();
  assert.ok(named(made).every((line) => !line.includes('undefined')));
  for (const line of named(await layersOf('cache'))) assert.ok(named(made).includes(line), line);
  const origins = [
    `type=registry,ref=${ref}`,
    `type=local,src=${dir.join('cache')}`,
    `type=registry,ref=${registry.host}/inline`,
  ];
  for (const origin of origins) {
    await other.buildctl(['prune', '--all']);
    const { stderr } = await other.build(dir.join('ctx'), [
      ...['--import-cache', origin, ...pushed('from-cache', FORCED)],
    ]);
    assert.equal(stderr.match(/^#\d+ CACHED$/gm)?.length, 3, `${origin}\n${stderr}`);
    assert.deepEqual(named(await layersOf('from-cache')), named(made), origin);
  }
});
