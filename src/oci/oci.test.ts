import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import {
  chainId,
  defaultImageConfig,
  normalizeHistory,
  parseImageConfig,
  patchImageConfig,
} from './image-config.ts';
import { detectManifestType, encodeManifest, parseManifest } from './manifest.ts';
import {
  convertLayerMediaType,
  distributableMediaType,
  layerForm,
  newLayerMediaType,
} from './media-types.ts';
import { amd64Variants, formatPlatformFull, normalizePlatform, parsePlatform } from './platform.ts';
import { PlatformMatcher } from './platform-match.ts';
import { joinRawFields, rawFields } from './raw-json.ts';
import { familiarReference, formatReference, normalizeReference, parseReference } from './reference.ts';
import { parseTime } from './time.ts';

const DIGEST = digestOf('x');

test('references are normalized and shown in their familiar form', () => {
  const cases: [string, string, string][] = [
    ['alpine', 'docker.io/library/alpine:latest', 'alpine'],
    ['alpine:3', 'docker.io/library/alpine:3', 'alpine:3'],
    ['docker.io/alpine', 'docker.io/library/alpine:latest', 'alpine'],
    ['index.docker.io/org/app', 'docker.io/org/app:latest', 'org/app'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app'],
    ['127.0.0.1:5000/a/b:v1', '127.0.0.1:5000/a/b:v1', '127.0.0.1:5000/a/b:v1'],
    ['[::1]:5000/a', '[::1]:5000/a:latest', '[::1]:5000/a'],
    ['Host/app', 'Host/app:latest', 'Host/app'],
    [`a/b@${DIGEST}`, `docker.io/a/b@${DIGEST}`, `a/b@${DIGEST}`],
    [`a:t@${DIGEST}`, `docker.io/library/a:t@${DIGEST}`, `a:t@${DIGEST}`],
  ];
  for (const [text, full, familiar] of cases) {
    assert.equal(normalizeReference(text), full);
    assert.equal(familiarReference(parseReference(text)), familiar);
  }
});

test('bad references are refused with the texts that users know', () => {
  const cases: [string, RegExp][] = [
    ['', /^invalid reference format$/],
    ['A', /^invalid reference format: repository name \(library\/A\) must be lowercase$/],
    ['a:\u0130', /^repository name must be lowercase$/],
    ['a:v\u212a1', /^repository name must be lowercase$/],
    ['a b', /^invalid reference format$/],
    ['a:', /^invalid reference format$/],
    ['a@sha256:00', /^invalid reference format$/],
    [`a@sha256:${'0'.repeat(40)}`, /^invalid checksum digest length$/],
    [`a@md5x:${'0'.repeat(64)}`, /^unsupported digest algorithm$/],
    ['0'.repeat(64), /^invalid repository name \(0+\), cannot specify 64-byte hexadecimal strings$/],
    ['A'.repeat(70_000), /^invalid reference format: repository name \(library\/A+\) must be lowercase$/],
    ['a'.repeat(70_000), /^invalid reference format$/],
    ['a'.repeat(65_000), /^repository name must not be more than 255 characters$/],
    [`${'a-'.repeat(32_000)}!`, /^invalid reference format$/],
    [`host.x/${'a'.repeat(256)}`, /^repository name must not be more than 255 characters$/],
  ];
  for (const [text, message] of cases) assert.throws(() => parseReference(text), { message });
});

test('platforms', () => {
  const normal: [string, string][] = [
    ['linux/x86_64', 'linux/amd64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/armhf', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['arm64', 'linux/arm64'],
    ['windows(10.0.17763+win32k)/amd64', 'windows(10.0.17763+win32k)/amd64'],
  ];
  for (const [text, want] of normal)
    assert.equal(formatPlatformFull(normalizePlatform(parsePlatform(text))), want);
  assert.throws(() => parsePlatform('linux/*'), /wildcards not yet supported: invalid argument/);
  assert.throws(() => parsePlatform('nonsense'), /unknown operating system or architecture/);
  assert.throws(() => parsePlatform('linux/a/b/c'), /cannot parse platform specifier/);
  assert.throws(() => parsePlatform('linux(%zz)/amd64'), {
    message: '"linux(%zz)/amd64" has an invalid OS version "%zz": invalid URL escape "%zz"',
  });
  assert.throws(
    () => parsePlatform('linux(1+a%)'),
    /has invalid OS features: invalid os feature "a%": .* "%"$/,
  );
  assert.throws(
    () => parsePlatform('linux/a/b/c/d'),
    /^BuildError: "c\/d" is an invalid component of "linux\/a\/b\/c\/d": /,
  );
  assert.deepEqual(parsePlatform('windows(10%2e0+a%2Bb)/amd64').osFeatures, ['a+b']);
  assert.deepEqual(amd64Variants('cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3'), ['v2']);
  assert.deepEqual(amd64Variants('sse4_1'), []);
});

test('the best of several platforms', () => {
  const best = (wanted: string, ...have: string[]): string[] =>
    new PlatformMatcher(parsePlatform(wanted)).sort(have, parsePlatform);
  assert.deepEqual(best('linux/arm/v7', 'linux/arm/v5', 'linux/arm64', 'linux/arm/v7', 'linux/arm/v6'), [
    'linux/arm/v7',
    'linux/arm/v6',
    'linux/arm/v5',
  ]);
  assert.deepEqual(best('linux/arm64', 'linux/arm/v7', 'linux/arm64/v8', 'linux/amd64'), [
    'linux/arm64/v8',
    'linux/arm/v7',
  ]);
  assert.deepEqual(best('linux/amd64', '386', 'linux/amd64/v2', 'linux/amd64'), ['linux/amd64', '386']);
  assert.deepEqual(best('linux/amd64/v3', 'linux/amd64', 'linux/amd64/v2'), [
    'linux/amd64/v2',
    'linux/amd64',
  ]);
  assert.deepEqual(best('linux/arm64/v9', 'linux/arm64', 'linux/arm64/v8.5'), [
    'linux/arm64/v8.5',
    'linux/arm64',
  ]);
  assert.deepEqual(best('linux/s390x', 'linux/amd64'), []);
});

test('layer media types convert between the families and back', () => {
  for (const compression of ['uncompressed', 'gzip', 'zstd'] as const) {
    const oci = newLayerMediaType(compression);
    const docker = newLayerMediaType(compression, false);
    assert.equal(convertLayerMediaType(oci, false), docker);
    assert.equal(convertLayerMediaType(docker, true), oci);
    assert.equal(layerForm(oci)?.compression, compression);
  }
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
  const ociForeign = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip';
  assert.equal(convertLayerMediaType(foreign, true), ociForeign);
  assert.equal(distributableMediaType(foreign), newLayerMediaType('gzip', false));
  assert.equal(convertLayerMediaType('text/plain', true), 'text/plain');
});

test('kinds of manifests', () => {
  const kind = (value: unknown): string => detectManifestType(Buffer.from(JSON.stringify(value)));
  const oci = 'application/vnd.oci.image.manifest.v1+json';
  const index = 'application/vnd.oci.image.index.v1+json';
  assert.equal(kind({ layers: null }), 'application/vnd.docker.distribution.manifest.v2+json');
  assert.equal(kind({}), 'application/vnd.docker.distribution.manifest.list.v2+json');
  assert.equal(kind({ mediaType: oci, config: {} }), oci);
  assert.equal(kind({ mediaType: index, manifests: [] }), index);
  assert.throws(() => kind({ mediaType: index, config: {} }), /mediaType in manifest does not match/);
  assert.throws(() => kind({ config: {}, manifests: [] }), /invalid ambiguous manifest and manifest list/);
});

test('manifests are written as upstream writes them', () => {
  const text = encodeManifest({
    kind: 'manifest',
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'c', digest: DIGEST, size: 2 },
    layers: [{ mediaType: 'l', digest: DIGEST, size: 3, annotations: { b: '<&>', a: '1' } }],
  });
  const expected = `{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "c",
    "digest": "${DIGEST}",
    "size": 2
  },
  "layers": [
    {
      "mediaType": "l",
      "digest": "${DIGEST}",
      "size": 3,
      "annotations": {
        "a": "1",
        "b": "\\u003c\\u0026\\u003e"
      }
    }
  ]
}`;
  assert.equal(Buffer.from(text).toString(), expected);
  assert.deepEqual(parseManifest(text).kind, 'manifest');
  assert.throws(() => parseManifest(Buffer.from('{"config":{"digest":"x","size":1}}')), /bad digest/);
  const fraction = `{"config":{"digest":"${DIGEST}","size":1.5}}`;
  assert.throws(() => parseManifest(Buffer.from(fraction)), /bad size/);
  assert.throws(() => parseManifest(Buffer.from('{"schemaVersion":1}')), /schema 1 has been removed/);
});

const layer = (name: string, day: number) => ({
  diffId: digestOf(name),
  created: parseTime(`2024-01-0${day}T00:00:00Z`),
  description: `RUN ${name}`,
});

test('a config keeps what it does not know and gets rootfs, history and time', () => {
  const given =
    '{"os":"linux","architecture":"amd64","x":{"b":1.50,"a":"<"},"config":{"Labels":{"2":"b","1":"a"}},"rootfs":{"type":"y"}}';
  const patched = Buffer.from(
    patchImageConfig(Buffer.from(given), [layer('a', 1), layer('b', 2)]),
  ).toString();
  const history = [
    '{"created":"2024-01-01T00:00:00Z","created_by":"RUN a","comment":"buildkit.exporter.image.v0"}',
    '{"created":"2024-01-02T00:00:00Z","created_by":"RUN b","comment":"buildkit.exporter.image.v0"}',
  ];
  assert.equal(
    patched,
    `{"architecture":"amd64","config":{"Labels":{"2":"b","1":"a"}},"created":"2024-01-02T00:00:00Z",` +
      `"history":[${history}],"os":"linux","rootfs":{"type":"layers","diff_ids":["${digestOf('a')}","${digestOf('b')}"]},` +
      `"x":{"b":1.50,"a":"\\u003c"}}`,
  );
  const empty = Buffer.from(patchImageConfig(defaultImageConfig(), [])).toString();
  assert.match(empty, /"history":null/);
  assert.match(empty, /"rootfs":\{"type":"layers","diff_ids":null\}/);
  assert.match(empty, /"created":null/);
  assert.match(empty, /"config":\{"Env":\["PATH=[^"]*"\],"WorkingDir":"\/"\}/);
  assert.throws(() => patchImageConfig(Buffer.from('null'), []), /invalid null image config for export/);
  assert.throws(() => patchImageConfig(Buffer.from('{"os":"linux"}'), []), /missing architecture/);
  assert.throws(() => patchImageConfig(Buffer.from('{"architecture":"x"}'), []), /missing os/);
});

test('history is made to fit the layers', () => {
  const times = (entries: ReturnType<typeof normalizeHistory>): string =>
    entries.map((e) => `${e.created?.text.slice(8, 10) ?? '-'}${e.emptyLayer ? 'e' : ''}`).join(' ');
  const empty = { emptyLayer: true };
  const made = normalizeHistory([empty, {}, empty, {}, empty], [layer('a', 1), layer('b', 2)]);
  assert.equal(times(made), '01e 01 01e 02 02e');
  const surplus = normalizeHistory([{}, {}], [layer('a', 1)]);
  assert.equal(times(surplus), '01 01e');
  const old = parseTime('2023-01-09T00:00:00Z');
  const base = normalizeHistory([{ created: old }, empty, {}], [layer('a', 1), layer('b', 2)]);
  assert.equal(times(base), '09 02e 02');
  assert.equal(times(normalizeHistory([{ created: old }, empty], [layer('a', 1)])), '09 09e');
});

test('an epoch lowers times but not those of the base image', () => {
  const epoch = parseTime('2024-01-01T12:00:00Z');
  const base = { created: '2024-01-05T00:00:00Z', created_by: 'base' };
  const given = { os: 'linux', architecture: 'amd64', created: '2025-01-01T00:00:00Z', history: [base] };
  const bytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  const options = { epoch, baseConfig: bytes({ history: [base] }) };
  const layers = [layer('a', 5), layer('b', 2)];
  const patched = parseImageConfig(patchImageConfig(bytes(given), layers, options));
  assert.deepEqual(
    patched.history.map((h) => h.created?.text),
    ['2024-01-05T00:00:00Z', '2024-01-01T12:00:00Z'],
  );
  const text = Buffer.from(patchImageConfig(bytes(given), layers, options)).toString();
  assert.match(text, /"created":"2024-01-01T12:00:00Z","history"/);
});

test('chain IDs', () => {
  assert.equal(chainId(['sha256:a' as Digest]), 'sha256:a');
  assert.equal(chainId(['a', 'b', 'c'] as Digest[]), digestOf(`${digestOf('a b')} c`));
});

test('times keep their nanoseconds and zone', () => {
  assert.equal(parseTime('2024-05-01T10:00:00.120000000+02:00').text, '2024-05-01T10:00:00.12+02:00');
  assert.equal(parseTime('1970-01-01T00:00:00.000000001Z').ns, 1n);
  assert.throws(() => parseTime('yesterday'), /no RFC 3339 time/);
});

/** Numbers that are the same in every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('parsers of foreign text fail with BuildError only, and what they take they give back', () => {
  const pick = random(42);
  const parts = [
    'a',
    'B',
    '/',
    ':',
    '@',
    '.',
    '_',
    '__',
    '-',
    '0',
    'sha256:',
    DIGEST.slice(7),
    'localhost',
    '[::1]',
    ' ',
    'é',
    '',
  ];
  for (let round = 0; round < 20_000; round++) {
    const text = Array.from({ length: pick(8) }, () => parts[pick(parts.length)]).join('');
    try {
      const ref = parseReference(text);
      assert.deepEqual(parseReference(formatReference(ref)), ref);
      assert.deepEqual(parseReference(familiarReference(ref)), ref);
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
    }
  }
  const seeds = [
    encodeManifest({
      kind: 'index',
      mediaType: '',
      manifests: [{ mediaType: 'm', digest: DIGEST, size: 1 }],
    }),
    encodeManifest({
      kind: 'manifest',
      mediaType: '',
      config: { mediaType: 'c', digest: DIGEST, size: 2 },
      layers: [],
    }),
    patchImageConfig(defaultImageConfig(), [layer('a', 1)]),
  ];
  for (let round = 0; round < 20_000; round++) {
    const data = Buffer.from(seeds[pick(seeds.length)]!);
    for (let n = pick(4); n >= 0; n--) data[pick(data.length)] = 32 + pick(95);
    const cut = data.subarray(0, pick(10) === 0 ? pick(data.length) : data.length);
    for (const parse of [parseManifest, parseImageConfig, (d: Uint8Array) => patchImageConfig(d, [])]) {
      try {
        parse(cut);
      } catch (error) {
        if (!(error instanceof BuildError)) throw error;
      }
    }
  }
});

test('raw fields survive any valid JSON', () => {
  const text = ' { "a" : [1, {"b":"}\\"{"}] , "z":{} ,"a":2,"é":"\\u00e9<" } ';
  assert.equal(joinRawFields(rawFields(text)!), '{"a":2,"z":{},"é":"\\u00e9\\u003c"}');
  assert.equal(joinRawFields(rawFields('{}')!), '{}');
});
