import assert from 'node:assert/strict';
import test from 'node:test';
import { field, goJson, goJsonIndent, goMap, goStruct, omitEmpty, optional } from './gojson.ts';

// Expected texts were written by Go's encoding/json.

test('escapes text as Go does', () => {
  assert.equal(goJson('plain'), '"plain"');
  assert.equal(goJson('<a>&'), '"\\u003ca\\u003e\\u0026"');
  assert.equal(goJson('q"b\\'), '"q\\"b\\\\"');
  assert.equal(goJson('\b\f\n\r\t\u0000\u001f\u007f'), '"\\b\\f\\n\\r\\t\\u0000\\u001f\u007f"');
  assert.equal(goJson('\u2028\u2029'), '"\\u2028\\u2029"');
  assert.equal(goJson('é😀'), '"é😀"');
  assert.equal(goJson('\ufffd'), '"\ufffd"');
  assert.equal(goJson('a\ud800b\udc00'), '"a\\ufffdb\\ufffd"');
});

test('writes numbers as Go does', () => {
  const numbers = [0, 1, -1.5, 1e20, 1e21, 1.5e-6, 1e-7, 123456789012, 1e300, 5e-324, 0.1, -0];
  assert.equal(
    goJson(numbers),
    '[0,1,-1.5,100000000000000000000,1e+21,0.0000015,1e-7,123456789012,1e+300,5e-324,0.1,-0]',
  );
  assert.equal(goJson(9007199254740993n), '9007199254740993');
  assert.throws(() => goJson(Number.NaN), /unsupported value/);
});

test('keeps the order of structs and sorts the keys of maps by bytes', () => {
  assert.equal(
    goJson({ b: 1, a: goMap({ z: 1, Z: 2, é: 3 }), c: undefined }),
    '{"b":1,"a":{"Z":2,"z":1,"é":3}}',
  );
});

test('leaves out empty fields only where the shape says so', () => {
  interface Thing {
    readonly a?: string[];
    readonly n: number;
    readonly inner?: { readonly x: number };
  }
  const inner = goStruct<{ readonly x: number }>(optional('X', (i) => i.x));
  const shape = goStruct<Thing>(
    field('A', (t) => t.a),
    optional('N', (t) => t.n),
    optional('Inner', (t) => inner(t.inner)),
  );
  assert.equal(goJson(shape({ n: 0 })), '{"A":null}');
  assert.equal(goJson(shape({ a: [], n: 1, inner: { x: 0 } })), '{"A":[],"N":1,"Inner":{}}');
  const empties = [omitEmpty(''), omitEmpty([]), omitEmpty(0n), omitEmpty(new Map())];
  assert.deepEqual(empties, [undefined, undefined, undefined, undefined]);
});

test('indents as MarshalIndent does', () => {
  const value = {
    A: ['x', 'y'],
    B: goMap({ z: 1, a: goMap({}), é: null, Z: true }),
    C: {},
    D: [],
    E: null,
    F: Uint8Array.of(1, 2, 255),
    g: [[1], goMap({ k: 'v' })],
  };
  assert.equal(
    goJsonIndent(value, '  '),
    '{\n  "A": [\n    "x",\n    "y"\n  ],\n  "B": {\n    "Z": true,\n    "a": {},\n    "z": 1,\n    "é": null\n  },\n' +
      '  "C": {},\n  "D": [],\n  "E": null,\n  "F": "AQL/",\n  "g": [\n    [\n      1\n    ],\n    {\n      "k": "v"\n    }\n  ]\n}',
  );
  assert.equal(goJsonIndent({ a: [1] }, '\t', '>'), '{\n>\t"a": [\n>\t\t1\n>\t]\n>}');
});
