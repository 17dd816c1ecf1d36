import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { compactJson, indentJson } from '../oci/raw-json.ts';
import { parseTime } from '../oci/time.ts';
import { stepsOf } from './build-config.ts';
import { Capture } from './capture.ts';
import { materialsOf } from './materials.ts';
import { type BuildFacts, encodePredicate, type PredicateDetails } from './predicate.ts';
import { imagePurl } from './purl.ts';
import { requestRecord, sameRequest, toldOptions } from './request.ts';

const D1 = digestOf('1');
const D2 = digestOf('2');
const AMD64 = { os: 'linux', architecture: 'amd64' };

test('package addresses of images', () => {
  const cases: [string, Parameters<typeof imagePurl>[2], string][] = [
    ['alpine', {}, 'pkg:docker/alpine@latest'],
    ['docker.io/library/alpine:3.18', { platform: AMD64 }, 'pkg:docker/alpine@3.18?platform=linux%2Famd64'],
    ['org/app', {}, 'pkg:docker/org/app@latest'],
    ['host:5000/a/b:t', {}, 'pkg:docker/host%3A5000/a/b@t'],
    [`x@${D1}`, { platform: AMD64 }, `pkg:docker/x?digest=${D1}&platform=linux%2Famd64`],
    [`x:t@${D1}`, {}, `pkg:docker/x@t?digest=${D1}`],
    [
      'x:t',
      { qualifiers: { ref_type: 'bundle', vcs_url: 'https://u@h/x.git#a b' } },
      'pkg:docker/x@t?ref_type=bundle&vcs_url=https:%2F%2Fu@h%2Fx.git%23a%20b',
    ],
    [
      'x',
      { platform: { os: 'linux', architecture: 'aarch64' } },
      'pkg:docker/x@latest?platform=linux%2Farm64',
    ],
  ];
  for (const [ref, options, purl] of cases) assert.equal(imagePurl('docker', ref, options), purl);
});

test('materials: sorted, once each, credentials masked', () => {
  const capture = new Capture();
  const image = { ref: 'docker.io/library/z:1', platform: AMD64, digest: D1, local: false };
  capture.addImage(image);
  capture.addImage({ ...image, digest: D2 });
  capture.addImage({ ...image, platform: { ...AMD64, architecture: 'arm64' } });
  capture.addImage({ ref: 'a.b/c@sha256:x'.replace('sha256:x', D2), digest: D2, local: true });
  capture.addGit({ url: 'https://user:secret@host/r.git#main', commit: 'a'.repeat(40) });
  const bundle = `oci-layout+blob://h/b@${D1}`;
  capture.addGit({ url: 'https://host/s.git', commit: 'b'.repeat(64), bundle });
  capture.addHttp({ url: 'http://u@h/f', digest: D1 });
  capture.addHttp({ url: 'http://u@h/f', digest: D2 });
  capture.addLocal('context');
  assert.deepEqual(
    materialsOf(capture).map(({ uri, digest }) => `${uri} ${Object.keys(digest)}`),
    [
      `pkg:oci/a.b/c?digest=${D2} sha256`,
      'pkg:docker/z@1?platform=linux%2Famd64 sha256',
      'pkg:docker/z@1?platform=linux%2Farm64 sha256',
      'https://host/s.git sha256',
      'pkg:oci/h/b@latest?ref_type=bundle&vcs_url=https:%2F%2Fhost%2Fs.git sha256',
      'https://xxxxx:xxxxx@host/r.git#main sha1',
      'http://xxxxx@h/f sha256',
    ],
  );
});

test('an image by digest gives way to one by its tag', () => {
  const refs = [`x@${D1}`, 'x:latest', `y:1@${D1}`, `y@${D1}`];
  const capture = new Capture();
  for (const ref of refs) capture.addImage({ ref: `docker.io/library/${ref}`, digest: D1, local: false });
  capture.dropPinned();
  const left = capture.images.map(({ ref }) => ref.slice('docker.io/library/'.length));
  assert.deepEqual(left, ['x:latest', `y:1@${D1}`, `y@${D1}`]);
});

test('merged captures: a grant is optional only when all uses of it are', () => {
  const one = new Capture();
  one.addSecret({ id: 'b', optional: true });
  one.addSecret({ id: 'a', optional: true });
  one.addSsh({ id: '', optional: false });
  const two = new Capture();
  two.addSecret({ id: 'a', optional: false });
  two.networkAccess = true;
  one.merge(two);
  assert.deepEqual(one.secrets, [
    { id: 'a', optional: false },
    { id: 'b', optional: true },
  ]);
  assert.deepEqual(one.ssh, [{ id: 'default', optional: false }]);
  assert.ok(one.networkAccess);
  assert.ok(!one.incomplete);
});

test('which options of a request are told', () => {
  const options = {
    platform: 'linux/amd64',
    'attest:sbom': '',
    'cache-imports': '[]',
    context: 'https://u:p@h/r.git',
    'context:x': 'https://u:p@h/y',
    target: 't',
  };
  assert.deepEqual(toldOptions(options), {
    context: 'https://xxxxx:xxxxx@h/r.git',
    'context:x': 'https://xxxxx:xxxxx@h/y',
    target: 't',
  });
});

test('the main context is where the instructions came from', () => {
  const capture = new Capture();
  capture.addGit({ url: 'https://h/r.git#main', commit: 'c'.repeat(40) });
  const record = (options: Record<string, string>) => requestRecord('f', options, {}, capture);
  assert.deepEqual(record({ context: 'https://h/r.git?ref=main&subdir=d', filename: 'F', target: 't' }), {
    configSource: { uri: 'https://h/r.git#main:d', digest: { sha1: 'c'.repeat(40) }, path: 'F' },
    request: { frontend: 'f', args: { target: 't' }, inputs: {} },
  });
  const other = record({ contextkey: 'k', k: 'https://u:p@x/', context: 'y' });
  assert.deepEqual(other.configSource, { uri: 'https://xxxxx:xxxxx@x/' });
  assert.deepEqual(other.request.args, { contextkey: 'k', context: 'y' });
  assert.ok(sameRequest(record({ a: '1', b: '2' }), record({ b: '2', a: '1' })));
  assert.ok(!sameRequest(record({ a: '1' }), record({ a: '2' })));
});

const DETAILS: PredicateDetails = {
  builderId: '',
  builderPlatform: 'linux/amd64',
  dockerfileVersion: '1.0',
  environment: { z: 1, a: { c: [1], b: 2 } },
  reproducible: true,
  invocationId: 'id',
  started: parseTime('2020-01-01T00:00:00.5Z'),
  finished: parseTime('2020-01-01T00:00:01Z'),
  compatibilityVersion: 30,
};

function facts(over: Partial<BuildFacts> = {}): BuildFacts {
  const options = {
    'build-arg:A': '1',
    'label:l': '2',
    target: 't',
    'vcs:source': 'https://u:p@h/',
    'vcs:x': '',
  };
  const capture = new Capture();
  capture.addSecret({ id: 's', optional: true });
  const request = requestRecord('dockerfile.v0', options, {}, capture);
  return { capture, request, root: undefined, ...over };
}

test('a predicate of version 1 that tells little', () => {
  const text = encodePredicate('v1', facts(), 'min', DETAILS);
  assert.deepEqual(JSON.parse(text), {
    buildDefinition: {
      buildType: 'https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md',
      externalParameters: {
        configSource: {},
        request: { frontend: 'dockerfile.v0', args: { target: 't' }, compatibilityVersion: 30 },
      },
      internalParameters: {
        a: { b: 2, c: [1] },
        builderPlatform: 'linux/amd64',
        dockerfileVersion: '1.0',
        z: 1,
      },
    },
    runDetails: {
      builder: { id: '' },
      metadata: {
        invocationId: 'id',
        startedOn: '2020-01-01T00:00:00.5Z',
        finishedOn: '2020-01-01T00:00:01Z',
        buildkit_metadata: { vcs: { source: 'https://xxxxx:xxxxx@h/' } },
        buildkit_hermetic: true,
        buildkit_completeness: { request: false, resolvedDependencies: true },
        buildkit_reproducible: true,
      },
    },
  });
  assert.match(text, /"internalParameters": \{\n {6}"a": \{\n {8}"b": 2,\n {8}"c"/);
});

test('a predicate of version 0.2 that tells all', () => {
  const capture = new Capture();
  capture.addLocal('context');
  capture.networkAccess = true;
  const root = requestRecord('gateway.v0', { source: 'x', 'build-arg:B': '1' }, {}, undefined);
  const full = { buildConfig: { llbDefinition: [] }, source: undefined, layers: new Map([['step0:0', []]]) };
  const text = encodePredicate('v0.2', facts({ capture, root }), 'max', { ...DETAILS, full });
  const { invocation, metadata, ...rest } = JSON.parse(text);
  assert.deepEqual(rest, {
    builder: { id: '' },
    buildType: 'https://mobyproject.org/buildkit@v1',
    buildConfig: { llbDefinition: [] },
  });
  assert.deepEqual(invocation.environment, {
    a: { b: 2, c: [1] },
    dockerfileVersion: '1.0',
    platform: 'linux/amd64',
    z: 1,
  });
  assert.deepEqual(invocation.parameters.args, { 'build-arg:A': '1', 'label:l': '2', target: 't' });
  assert.deepEqual(invocation.parameters.locals, [{ name: 'context' }]);
  assert.deepEqual(invocation.parameters.root, {
    configSource: {},
    request: { frontend: 'gateway.v0', args: { 'build-arg:B': '1', source: 'x' } },
  });
  assert.deepEqual(metadata.completeness, { parameters: true, environment: true, materials: false });
  assert.deepEqual(metadata['https://mobyproject.org/buildkit@v1#metadata'], {
    vcs: { source: 'https://xxxxx:xxxxx@h/' },
    layers: { 'step0:0': [] },
  });
  assert.equal(metadata['https://mobyproject.org/buildkit@v1#hermetic'], undefined);
});

test('without a frontend nothing of the request is known', () => {
  const text = encodePredicate('v1', { ...facts(), request: undefined }, 'max', DETAILS);
  const { buildDefinition, runDetails } = JSON.parse(text);
  assert.deepEqual(buildDefinition.externalParameters.request, {
    secrets: [{ id: 's', optional: true }],
    compatibilityVersion: 30,
  });
  assert.equal(runDetails.metadata.buildkit_completeness.request, false);
  assert.equal(buildDefinition.internalParameters.dockerfileVersion, undefined);
});

test('definitions that are none are refused', () => {
  assert.deepEqual(stepsOf(undefined).steps, []);
  const definition = { def: [Buffer.from([])], metadata: {}, Source: undefined };
  assert.throws(() => stepsOf(definition), { message: 'invalid last vertex inputs: 0' });
});

test('JSON texts keep their numbers and order when they are set anew', () => {
  const text = '{ "b": [1.0, {}, [ ]], "a": "x:,{}\\"<", "c": { "d": null } }';
  const compact = compactJson(text);
  assert.equal(compact, '{"b":[1.0,{},[]],"a":"x:,{}\\"\\u003c","c":{"d":null}}');
  assert.equal(
    indentJson(compact, ' '),
    '{\n "b": [\n  1.0,\n  {},\n  []\n ],\n "a": "x:,{}\\"\\u003c",\n "c": {\n  "d": null\n }\n}',
  );
  assert.throws(() => compactJson('{'), /JSON/);
});
