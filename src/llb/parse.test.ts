import assert from 'node:assert/strict';
import test from 'node:test';
import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { ENABLED_CAPS, UNSERVED_CAPS } from './caps.ts';
import { diff, merge } from './combine.ts';
import { fromDefinition } from './definition-state.ts';
import { decodeDefinition, encodeDefinition, encodeOp } from './encode.ts';
import { run } from './exec.ts';
import { file, mkdir, mkfile } from './file.ts';
import { marshal } from './marshal.ts';
import type { Definition, Op } from './ops.ts';
import { parseDefinition, prunedCacheMounts, walkVertexes } from './parse.ts';
import { image, local } from './source.ts';
import { type State, scratch } from './state.ts';

const AMD64 = { os: 'linux', architecture: 'amd64' };
const ALL_CAPS = new Set([...ENABLED_CAPS, ...UNSERVED_CAPS]);
const alpine = image('alpine');

function define(state: State): Definition {
  return decodeDefinition(encodeDefinition(marshal(state, { platform: AMD64, localUniqueId: 'u' })));
}

function definitionOf(...ops: Partial<Op>[]): Definition {
  const empty = { inputs: [], op: undefined, platform: undefined, constraints: undefined };
  return { def: ops.map((op) => encodeOp({ ...empty, ...op })), metadata: {}, Source: undefined };
}

const SOURCE: Op['op'] = { $case: 'source', value: { identifier: 'x://', attrs: {} } };
const SOURCE_DIGEST = digestOf(definitionOf({ op: SOURCE }).def[0] ?? '');
const TO_SOURCE = { inputs: [{ digest: SOURCE_DIGEST, index: 0n }] };

test('gives the graph with digests, inputs, options and sources', () => {
  const map = { filename: 'Dockerfile', language: 'Dockerfile', data: Buffer.from('FROM x') };
  const ranges = [{ start: { line: 1, character: 0 }, end: { line: 1, character: 4 } }];
  const group = { id: 'g', name: 'group', weak: true };
  const state = run(alpine, {
    args: ['a', 'b'],
    mounts: [{ dest: '/ctx', from: local('context') }],
    constraints: {
      ignoreCache: true,
      exportCache: false,
      progressGroup: group,
      locations: [{ map, ranges }],
    },
  }).root;
  const definition = define(state);
  const { vertex, index } = parseDefinition(definition);
  assert.equal(index, 0);
  assert.equal(vertex.digest, digestOf(definition.def[2] ?? ''));
  assert.equal(vertex.name, 'a b');
  assert.deepEqual(
    vertex.inputs.map((input) => [input.vertex.name, input.index]),
    [
      ['docker-image://docker.io/library/alpine:latest', 0],
      ['local://context', 0],
    ],
  );
  assert.deepEqual(vertex.options, {
    ignoreCache: true,
    description: {},
    exportCache: false,
    progressGroup: group,
  });
  assert.deepEqual(vertex.spec.platform, { os: 'linux', architecture: 'amd64' });
  assert.equal(vertex.spec.locations[0]?.info.filename, 'Dockerfile');
  assert.deepEqual(vertex.spec.locations[0]?.ranges, ranges);
  const { ranges: wire } = definition.Source!.locations[vertex.digest]!.locations[0]!;
  wire[0]!.end = undefined;
  const nowhere = { line: 0, character: 0 };
  assert.deepEqual(parseDefinition(definition).vertex.spec.locations[0]?.ranges, [
    { ...ranges[0], end: nowhere },
  ]);
});

test('names vertexes', () => {
  const name = (state: State): string => parseDefinition(define(state), { caps: ALL_CAPS }).vertex.name;
  const files = file(alpine, [mkdir('/d', 0o755), mkfile('/f', 0o644, '')]);
  assert.equal(name(files), 'mkdir /d, mkfile /f');
  assert.equal(name(merge([local('a', { customName: 'A' }), files])), 'merge (A, mkdir /d, mkfile /f)');
  assert.equal(name(diff(local('a'), scratch())), 'diff (local://a) -> scratch');
  assert.equal(name(image('alpine', { customName: 'mine' })), 'mine');
});

test('refuses broken definitions with the known texts', () => {
  const exec = (value: object): Partial<Op> => ({
    ...TO_SOURCE,
    op: {
      $case: 'exec',
      value: {
        meta: undefined,
        mounts: [],
        network: 0,
        security: 0,
        secretenv: [],
        cdiDevices: [],
        ...value,
      },
    },
  });
  const refuse = (body: Partial<Op>, text: string): void => {
    const { def } = definitionOf({ op: SOURCE }, body);
    const last = { inputs: [{ digest: digestOf(def[1] ?? ''), index: 0n }] };
    assert.throws(() => parseDefinition(definitionOf({ op: SOURCE }, body, last)), { message: text });
  };
  const meta = {
    args: ['x'],
    env: [],
    cwd: '/',
    user: '',
    proxyEnv: undefined,
    extraHosts: [],
    hostname: '',
    ulimit: [],
    cgroupParent: '',
    removeMountStubsRecursive: false,
    validExitCodes: [],
  };
  assert.throws(() => parseDefinition(definitionOf()), { message: 'invalid empty definition' });
  assert.throws(() => parseDefinition(definitionOf({ op: SOURCE })), {
    message: 'invalid LLB with 1 vertexes',
  });
  assert.throws(() => parseDefinition(definitionOf(TO_SOURCE)), {
    message: `invalid missing input digest ${SOURCE_DIGEST}`,
  });
  assert.throws(() => parseDefinition(definitionOf({ op: SOURCE }, {})), {
    message: 'invalid LLB with no inputs on last vertex',
  });
  const negative = { inputs: [{ digest: SOURCE_DIGEST, index: -1n }] };
  assert.throws(() => parseDefinition(definitionOf({ op: SOURCE }, negative)), {
    message: 'invalid input 0 output index -1',
  });
  assert.throws(() => parseDefinition({ ...definitionOf(), def: [Uint8Array.of(0xff)] }), {
    message: /^failed to parse llb proto op: /,
  });
  refuse(exec({}), 'invalid exec op with no meta');
  refuse(exec({ meta: { ...meta, args: [] } }), 'invalid exec op with no args');
  refuse(exec({ meta }), 'invalid exec op with no mounts');
  refuse({ op: { $case: 'file', value: { actions: [] } } }, 'invalid file op with no actions');
  refuse(
    { op: { $case: 'diff', value: { lower: undefined, upper: { input: 0n } } } },
    'invalid diff op with nil lower or upper input',
  );
  refuse(
    { ...TO_SOURCE, op: { $case: 'passthrough', value: { id: 'a', outputs: [1n] } } },
    'invalid passthrough output input index 1',
  );
});

test('checks capabilities of every vertex that is needed', () => {
  const unknown = define(image('alpine', { caps: ['never.heard'] }));
  assert.throws(() => parseDefinition(unknown), { message: 'unknown API capability never.heard' });
  const unserved = define(image('alpine', { caps: ['exec.meta.network.proxy'] }));
  assert.throws(() => parseDefinition(unserved), {
    message:
      'requested experimental feature exec.meta.network.proxy  is not supported by build server, please update buildkit',
  });
  parseDefinition(unserved, {
    caps: new Set(['exec.meta.network.proxy', 'source.image', 'constraints', 'platform']),
  });
});

test('finds cache mounts that a build without cache starts afresh', () => {
  const mounts = [
    { dest: '/c', cache: { id: 'a' } },
    { dest: '/d', cache: { id: '' }, from: alpine },
  ];
  const fresh = run(alpine, { args: ['x'], mounts, constraints: { ignoreCache: true } }).root;
  const kept = run(fresh, { args: ['y'], mounts: [{ dest: '/e', cache: { id: 'b' } }] }).root;
  assert.deepEqual(
    prunedCacheMounts(parseDefinition(define(kept))),
    new Map([
      ['a', false],
      ['/d', true],
    ]),
  );
});

test('parses and marshals chains of 10,000 vertexes without recursion', () => {
  let state: State = alpine;
  for (let i = 0; i < 10_000; i++) state = file(state, [mkdir(`/${i}`, 0o755)]);
  const definition = define(state);
  assert.equal(definition.def.length, 10_002);
  assert.equal([...walkVertexes(parseDefinition(definition))].length, 10_001);
});

test('a definition read back marshals to the same bytes', () => {
  const state = run(file(alpine, [mkdir('/d', 0o755)]), {
    args: ['x'],
    constraints: { customName: 'n' },
  }).root;
  const definition = define(state);
  assert.deepEqual(encodeDefinition(marshal(fromDefinition(definition))), encodeDefinition(definition));
  const more = marshal(file(fromDefinition(definition), [mkdir('/e', 0o755)]), { platform: AMD64 });
  assert.deepEqual(more, marshal(file(state, [mkdir('/e', 0o755)]), { platform: AMD64 }));
});

test('bytes that were tampered with give a graph or an error, never anything else', () => {
  const state = run(file(alpine, [mkdir('/d', 0o755)]), {
    args: ['x'],
    constraints: { customName: 'n' },
  }).root;
  const bytes = encodeDefinition(define(state));
  let x = 1;
  const random = (below: number): number => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor((x / 2 ** 32) * below);
  };
  let parsed = 0;
  for (let round = 0; round < 3000; round++) {
    const copy = Uint8Array.from(bytes);
    for (let i = 0; i <= random(4); i++) copy[random(copy.length)] = random(256);
    let definition: Definition;
    try {
      definition = decodeDefinition(copy);
    } catch {
      continue; // the message itself is broken: refused by the transport
    }
    try {
      parseDefinition(definition);
      parsed++;
    } catch (error) {
      assert.ok(error instanceof BuildError, String(error));
    }
  }
  assert.ok(parsed > 0);
});
