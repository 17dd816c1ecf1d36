import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Attestation } from '../attest/attestation.ts';
import { digestHex, digestOf } from '../base/digest.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { mediaTypeOciIndex, mediaTypeOciManifest } from '../oci/media-types.ts';
import { type Bench, bench, result, target } from '../testing/exporter.ts';
import { type CheckedImage, checkImage } from '../images/check.ts';
import { createExporter } from './create.ts';
import type { ExportSource } from './exporter.ts';

const SPDX = 'https://spdx.dev/Document';
const AMD64 = { ID: 'linux/amd64', Platform: { architecture: 'amd64', os: 'linux' } };
const ARM64 = { ID: 'linux/arm64', Platform: { architecture: 'arm64', os: 'linux' } };
const config = (architecture: string) => JSON.stringify({ architecture, os: 'linux' });
const METADATA = {
  'refs.platforms': JSON.stringify({ Platforms: [AMD64] }),
  'containerimage.config': config('amd64'),
};

type RefAttestation = Attestation<ImmutableRef>;

function attestation(over: Partial<RefAttestation> = {}): RefAttestation {
  return {
    kind: 'in-toto',
    metadata: new Map(),
    ref: null,
    path: 'p.json',
    content: async () => Buffer.from('{ "z": 1, "a": "<b>" }'),
    predicateType: 'https://example.com/p',
    subjects: [],
    ...over,
  };
}

const inlineOnly = attestation({ metadata: new Map([['inline-only', Buffer.from('true')]]) });

function said(ref: ImmutableRef | null, ...list: RefAttestation[]): ExportSource {
  return { ...result(ref, METADATA), attestations: new Map([['linux/amd64', list]]) };
}

async function imageOf(
  b: Bench,
  source: ExportSource,
  attrs: Record<string, string> = {},
  type = 'image',
): Promise<CheckedImage> {
  const out = await createExporter(type, attrs, b.services(), target()).export(source, b.context);
  try {
    const read = ({ digest }: Descriptor) =>
      b.store.content.has(digest) ? b.store.content.readAll(digest, b.context) : undefined;
    return await checkImage(out.descriptor!, { read });
  } finally {
    out.release();
  }
}

async function someLayer(b: Bench): Promise<ImmutableRef> {
  return b.layer(undefined, (dir) => writeFileSync(join(dir, 'f'), 'content'));
}

test('what is said of an image stands beside it in the index, about its names', async () => {
  await using b = await bench();
  const image = await imageOf(b, said(await someLayer(b), attestation()), { name: 'a/b,host:5/c:v' });
  assert.equal(image.index?.mediaType, mediaTypeOciIndex);
  const [found] = image.attestations;
  const digest = { sha256: digestHex(image.images[0]!.descriptor.digest) };
  assert.deepEqual(found?.statements, [
    {
      _type: 'https://in-toto.io/Statement/v1',
      predicateType: 'https://example.com/p',
      subject: [
        { name: 'pkg:docker/a/b@latest?platform=linux%2Famd64', digest },
        { name: 'pkg:docker/host%3A5/c@v?platform=linux%2Famd64', digest },
      ],
      predicate: { z: 1, a: '<b>' },
    },
  ]);
});

test('predicates keep their order and are escaped as Go does; without names nothing is named', async () => {
  await using b = await bench();
  const source = said(await someLayer(b), attestation());
  const image = await imageOf(b, source);
  const manifests = image.index?.manifests ?? [];
  const data = await b.store.content.readAll(manifests[1]!.digest, b.context);
  const manifest = JSON.parse(Buffer.from(data).toString());
  assert.deepEqual(Object.keys(manifest), [
    'schemaVersion',
    'mediaType',
    'artifactType',
    'config',
    'layers',
    'subject',
  ]);
  assert.equal(manifest.config.data, 'e30=');
  const statement = await b.store.content.readAll(manifest.layers[0].digest, b.context);
  assert.equal(
    Buffer.from(statement).toString(),
    '{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.com/p","subject":[],' +
      '"predicate":{"z":1,"a":"\\u003cb\\u003e"}}',
  );
});

test('in the form of an image, without subject', async () => {
  await using b = await bench();
  const image = await imageOf(b, said(await someLayer(b), attestation()), { 'oci-artifact': 'false' });
  const [, descriptor] = image.index?.manifests ?? [];
  const data = await b.store.content.readAll(descriptor!.digest, b.context);
  const manifest = JSON.parse(Buffer.from(data).toString());
  assert.equal(manifest.subject, undefined);
  const written = await b.store.content.readAll(manifest.config.digest, b.context);
  assert.equal(
    Buffer.from(written).toString(),
    `{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["${manifest.layers[0].digest}"]}}`,
  );
});

test('what is for images only makes an index where that is wanted', async () => {
  await using b = await bench();
  const ref = await someLayer(b);
  const kinds = async (type: string, attrs = {}, list = [inlineOnly]) => {
    const image = await imageOf(b, said(ref, ...list), attrs, type);
    return image.attestations.flatMap(({ statements }) => statements).length;
  };
  assert.equal(await kinds('image'), 1);
  assert.equal(await kinds('image', { 'attestation-inline': 'false' }), 0);
  assert.equal(await kinds('oci'), 0);
  assert.equal(await kinds('docker'), 0);
  assert.equal(await kinds('oci', { 'attestation-inline': 'true' }), 1);
  assert.equal(await kinds('oci', {}, [inlineOnly, attestation()]), 2);
});

test('several platforms: attestations behind all images, each about its own', async () => {
  await using b = await bench();
  const [one, two] = [await someLayer(b), await b.layer(undefined, (dir) => mkdirSync(join(dir, 'd')))];
  const metadata = {
    'refs.platforms': JSON.stringify({ Platforms: [AMD64, ARM64] }),
    'containerimage.config/linux/amd64': config('amd64'),
    'containerimage.config/linux/arm64': config('arm64'),
  };
  const source: ExportSource = {
    ...result(null, metadata),
    refs: new Map([
      ['linux/amd64', one],
      ['linux/arm64', two],
    ]),
    attestations: new Map([
      ['linux/amd64', [attestation()]],
      ['linux/arm64', [attestation({ predicateType: 'https://example.com/arm' })]],
    ]),
  };
  const image = await imageOf(b, source, { name: 'x' });
  assert.deepEqual(
    image.attestations.map(({ target: of, statements }) => [of, statements[0]?.predicateType]),
    [
      [image.images[0]!.descriptor.digest, 'https://example.com/p'],
      [image.images[1]!.descriptor.digest, 'https://example.com/arm'],
    ],
  );
  await assert.rejects(imageOf(b, source, { 'oci-mediatypes': 'false' }), {
    message: 'cannot export attestations with "oci-mediatypes=false"',
  });
});

test('subjects of an attestation', async () => {
  await using b = await bench();
  const subjects = [
    { kind: 'self', name: '_', digests: [] },
    { kind: 'self', name: 'more', digests: [] },
    { kind: 'raw', name: '', digests: [`sha256:${'1'.repeat(64)}`] },
  ] as const;
  const image = await imageOf(b, said(await someLayer(b), attestation({ subjects })), { name: 'n' });
  const names = image.attestations[0]?.statements[0]?.subject.map(({ name }) => name);
  const own = 'pkg:docker/n@latest?platform=linux%2Famd64';
  assert.deepEqual(names, [own, own, 'more', '_']);
});

test('folders of statements are taken apart, the result itself first', async () => {
  await using b = await bench();
  const statement = (type: string, predicate: unknown) =>
    JSON.stringify({ predicateType: type, subject: [{ name: 's', digest: { sha256: 'ab' } }], predicate });
  const docs = await b.layer(undefined, (dir) => {
    writeFileSync(join(dir, 'a.json'), statement(SPDX, { y: 1, x: [{ c: 1, b: 2 }] }));
    writeFileSync(join(dir, 'sbom.spdx.json'), statement(SPDX, 'core'));
  });
  const bundle = attestation({
    kind: 'bundle',
    ref: docs,
    path: '',
    content: undefined as never,
    predicateType: SPDX,
    metadata: new Map([['sbom-core', Buffer.from('sbom')]]),
  });
  const { content: _none, ...plain } = bundle;
  const image = await imageOf(b, said(await someLayer(b), plain));
  const statements = image.attestations[0]?.statements ?? [];
  assert.deepEqual(
    statements.map(({ predicate }) => predicate),
    ['core', { x: [{ b: 2, c: 1 }], y: 1 }],
  );
  assert.deepEqual(statements[0]?.subject, [{ name: 's', digest: { sha256: 'ab' } }]);
  const refused = async (type: string, message: string | RegExp) => {
    const ref = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'x'), statement(type, 1)));
    await assert.rejects(imageOf(b, said(null, { ...plain, ref, predicateType: '' })), { message });
  };
  await refused('https://slsa.dev/provenance/v1', 'frontend may not bundle provenance attestations');
  const wrong = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'x'), statement('t', 1)));
  await assert.rejects(imageOf(b, said(null, { ...plain, ref: wrong })), {
    message: `bundle entry t does not match required predicate type ${SPDX}`,
  });
  const link = await b.layer(undefined, (dir) => symlinkSync('/etc/passwd', join(dir, 'x')));
  await assert.rejects(imageOf(b, said(null, { ...plain, ref: link })), /passwd|no such file/i);
  const sub = await b.layer(undefined, (dir) => mkdirSync(join(dir, 'x')));
  await assert.rejects(imageOf(b, said(null, { ...plain, ref: sub })), /x is not a regular file/);
});

test('what frontends may not say', async () => {
  await using b = await bench();
  const ref = await b.layer(undefined, (dir) => writeFileSync(join(dir, 'p.json'), '{"a":1}'));
  const { content: _none, ...plain } = attestation({ ref });
  assert.equal((await imageOf(b, said(null, plain))).attestations.length, 1);
  const cases: [Partial<RefAttestation>, string | RegExp][] = [
    [{ predicateType: 'https://slsa.dev/provenance/v0.2' }, 'frontend may not set provenance attestations'],
    [{ path: '' }, 'attestation does not have set path'],
    [{ ref: null }, 'attestation does not have available content'],
    [{ path: 'none' }, /^cannot read in-toto attestation: .*none/],
  ];
  for (const [over, message] of cases)
    await assert.rejects(imageOf(b, said(null, { ...plain, ...over })), { message });
});

test('folders and archives hold what is said of them, about all of their files', async () => {
  await using b = await bench();
  const ref = await b.layer(undefined, (dir) => {
    mkdirSync(join(dir, 'q'));
    writeFileSync(join(dir, 'q/f'), 'content');
    symlinkSync('q/f', join(dir, 'link'));
    writeFileSync(join(dir, 'z'), '');
  });
  const source = said(ref, attestation(), inlineOnly);
  const local = target();
  await createExporter('local', { 'attestation-prefix': 'x-' }, b.services(), local).export(
    source,
    b.context,
  );
  assert.deepEqual(local.transfers[0]?.paths, ['link', 'q', 'q/f', 'x-p.json', 'z']);
  const text = local.tree.get('x-p.json') ?? '';
  assert.deepEqual(JSON.parse(text).subject, [
    { name: 'q/f', digest: { sha256: digestHex(digestOf('content')) } },
    { name: 'z', digest: { sha256: digestHex(digestOf('')) } },
  ]);
  assert.match(text, /^\{\n {2}"_type": .*\n {2}"predicate": \{\n {4}"z": 1,\n {4}"a": "\\u003cb\\u003e"\n/s);
  const tar = target();
  await createExporter('tar', {}, b.services(), tar).export(source, b.context);
  const list = execFileSync('tar', ['-tv'], { input: tar.files[0]! }).toString();
  assert.match(list, /-rw------- 0\/0 .* p\.json/);
  const twice = said(ref, attestation(), attestation());
  await assert.rejects(createExporter('local', {}, b.services(), target()).export(twice, b.context), {
    message: 'duplicate attestation path name p.json',
  });
});

test('merged folders tell attestations of platforms apart by name', async () => {
  await using b = await bench();
  const source: ExportSource = {
    ...result(null, { 'refs.platforms': JSON.stringify({ Platforms: [AMD64, ARM64] }) }),
    refs: new Map([
      ['linux/amd64', null],
      ['linux/arm64', null],
    ]),
    attestations: new Map(['linux/amd64', 'linux/arm64'].map((id) => [id, [attestation()]])),
  };
  const paths = async (attrs: Record<string, string>) => {
    const to = target();
    await createExporter('local', { mode: 'delete', ...attrs }, b.services(), to).export(source, b.context);
    return to.transfers[0]?.paths;
  };
  assert.deepEqual(await paths({ 'platform-split': 'false' }), ['p.linux_amd64.json', 'p.linux_arm64.json']);
  const split = ['linux_amd64', 'linux_amd64/p.json', 'linux_arm64', 'linux_arm64/p.json'];
  assert.deepEqual(await paths({}), split);
});

test('a foreign reader finds the image beside its attestations', async () => {
  await using b = await bench();
  const to = target();
  const out = await createExporter('oci', { name: 'x:y' }, b.services(), to).export(
    said(await someLayer(b), attestation()),
    b.context,
  );
  out.release();
  const file = join(b.dir, 'oci.tar');
  writeFileSync(file, to.files[0]!);
  const seen = spawnSync('skopeo', ['inspect', '--raw', `oci-archive:${file}:y`], { encoding: 'utf8' });
  assert.equal(seen.status, 0, seen.stderr);
  const index = JSON.parse(seen.stdout);
  assert.deepEqual(
    index.manifests.map((m: { mediaType: string }) => m.mediaType),
    [mediaTypeOciManifest, mediaTypeOciManifest],
  );
  const copy = [
    'copy',
    '--insecure-policy',
    '--all',
    `oci-archive:${file}:y`,
    `oci:${join(b.dir, 'copy')}:y`,
  ];
  const copied = spawnSync('skopeo', copy, { encoding: 'utf8' });
  assert.equal(copied.status, 0, copied.stderr);
});

test('files of a bill of materials are told by the layer that brought them last', async () => {
  await using b = await bench();
  const below = await b.layer(undefined, (dir) => {
    writeFileSync(join(dir, 'old'), '');
    writeFileSync(join(dir, 'both'), 'a');
  });
  const top = await b.layer(below, (dir) => {
    writeFileSync(join(dir, 'both'), 'b');
    rmSync(join(dir, 'old'));
  });
  const document = {
    spdxVersion: 'SPDX-2.3',
    creationInfo: { creators: ['Tool: x'] },
    files: [{ fileName: 'old' }, { fileName: './both' }, { fileName: 'both', comment: 'kept' }, {}],
    packages: [{ files: [{ fileName: '/both' }, { fileName: 'none' }] }],
  };
  const core = new Map([['sbom-core', Buffer.from('sbom')]]);
  const made = async (text: unknown, over: Partial<RefAttestation> = {}) => {
    const content = async () => Buffer.from(JSON.stringify(text));
    const one = attestation({ predicateType: SPDX, path: 'a/sbom.json', metadata: core, content, ...over });
    const image = await imageOf(b, said(top, one));
    const layers = image.images[0]!.manifest.layers.map(({ digest }) => `layerID: ${digest}`);
    return { layers, predicate: image.attestations[0]?.statements[0]?.predicate as typeof document };
  };
  const { layers, predicate } = await made(document);
  assert.deepEqual(predicate.files, [
    { fileName: 'old', comment: layers[0] },
    { fileName: './both', comment: layers[1] },
    { fileName: 'both', comment: 'kept' },
    {},
  ]);
  const [files] = predicate.packages.map((one) => one.files);
  assert.deepEqual(files, [{ fileName: '/both', comment: layers[1] }, { fileName: 'none' }]);
  assert.match(predicate.creationInfo.creators[1] ?? '', /^Tool: buildkit/);
  for (const [text, over] of [
    [document, { path: 'sbom-extra.json' }],
    [document, { metadata: new Map() }],
    [{ ...document, spdxVersion: 'other' }, {}],
    ['text', {}],
  ] as const)
    assert.deepEqual((await made(text, over)).predicate, text);
});

test('a file that is too large is refused, by name', async () => {
  await using b = await bench();
  const ref = await b.layer(undefined, (dir) => {
    writeFileSync(join(dir, 'large'), '');
    truncateSync(join(dir, 'large'), (40 << 20) + 1);
  });
  const { content: _none, ...plain } = attestation({ ref, path: 'large' });
  await assert.rejects(imageOf(b, said(null, plain)), { message: /large exceeds 41943040 bytes$/ });
});

test('what is not asked for is as the version of the build has it', async () => {
  await using b = await bench();
  const ref = await someLayer(b);
  const forms = async (type: string, version: 10 | 20 | 30, isSaid: boolean, attrs = {}) => {
    const source = isSaid ? said(ref, attestation()) : result(ref, METADATA);
    const exporter = createExporter(type, attrs, b.services(), target());
    const { descriptor, release } = await exporter.export(source, { ...b.context, version });
    const read = async ({ digest }: Descriptor) =>
      JSON.parse(Buffer.from(await b.store.content.readAll(digest, b.context)).toString());
    const top = await read(descriptor!);
    const says = top.manifests ? (await read(top.manifests[1])).artifactType !== undefined : undefined;
    release();
    return [/oci/.test(top.mediaType) ? 'oci' : 'docker', ...(says === undefined ? [] : [says])];
  };
  for (const version of [10, 20] as const) {
    assert.deepEqual(await forms('image', version, false), ['docker']);
    assert.deepEqual(await forms('docker', version, false), ['docker']);
    assert.deepEqual(await forms('oci', version, false), ['oci']);
    assert.deepEqual(await forms('image', version, true), ['oci', false]);
    assert.deepEqual(await forms('image', version, false, { 'oci-mediatypes': 'true' }), ['oci']);
    assert.deepEqual(await forms('image', version, true, { 'oci-artifact': 'true' }), ['oci', true]);
    await assert.rejects(forms('image', version, false, { compression: 'estargz' }), {
      message: 'exporter option "compression=estargz" conflicts with "oci-mediatypes=false"',
    });
    await assert.rejects(forms('image', version, false, { 'oci-artifact': 'true' }), {
      message: 'exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"',
    });
  }
  assert.deepEqual(await forms('image', 30, false), ['oci']);
  assert.deepEqual(await forms('image', 30, true), ['oci', true]);
  await assert.rejects(forms('image', 10, false, { compression: 'zstd' }), {
    message: 'unsupported compatibility-version 10 feature image exporter compression=zstd',
  });
  assert.deepEqual(await forms('image', 20, false, { compression: 'zstd' }), ['docker']);
});
