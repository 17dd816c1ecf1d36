import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Definition } from '../llb/ops.ts';
import { definitionJson } from './definition-json.ts';

test('a definition as JSON: keys in order, zeros left out, places in the source kept', () => {
  const definition = Definition.fromPartial({
    def: [Buffer.from('a')],
    metadata: {
      'sha256:b': { caps: { y: true, x: true }, progressGroup: { id: '0' } },
      'sha256:a': { description: { k: 'v' }, ignoreCache: true },
    },
    Source: {
      locations: {
        'sha256:b': { locations: [{ sourceIndex: 1, ranges: [{ start: { line: 2 }, end: { line: 3 } }] }] },
        'sha256:a': {},
      },
      infos: [{ filename: 'f', data: Buffer.from('x'), language: 'Dockerfile' }],
    },
  });
  const text = JSON.stringify(definitionJson(definition));
  assert.equal(
    text,
    JSON.stringify({
      def: ['YQ=='],
      metadata: {
        'sha256:a': { ignore_cache: true, description: { k: 'v' } },
        'sha256:b': { caps: { x: true, y: true }, progress_group: { id: '0' } },
      },
      Source: {
        locations: {
          'sha256:a': {},
          'sha256:b': { locations: [{ sourceIndex: 1, ranges: [{ start: { line: 2 }, end: { line: 3 } }] }] },
        },
        infos: [{ filename: 'f', data: 'eA==', language: 'Dockerfile' }],
      },
    }),
  );
});
