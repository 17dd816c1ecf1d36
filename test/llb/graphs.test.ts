// Graphs of every option give the bytes that BuildKit's own Go client gives for them: steps, metadata and source
// locations. test/golden/llb-graphs.json holds what that client gave: sha256 of the whole definition, encoded with its
// maps sorted, and the digest of the last entry.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { messageDigests } from './dump.ts';
import golden from '../golden/llb-graphs.json' with { type: 'json' };
import { combined } from './combined.ts';
import { files } from './files.ts';
import type { Graphs } from './graph.ts';
import { runs } from './runs.ts';
import { sources } from './sources.ts';

const graphs: Graphs = { ...sources, ...runs, ...files, ...combined };
const expected: Readonly<Record<string, { readonly definition: string; readonly last?: string }>> = golden;

test('every graph that the client was asked for is here', () => {
  assert.deepEqual(Object.keys(graphs).sort(), Object.keys(expected).sort());
});

for (const [name, make] of Object.entries(graphs)) {
  test(`${name} is what the Go client makes of it`, async () => {
    for (let round = 0; round < 2; round++) {
      const graph = await make();
      const [state, options] = 'marshal' in graph ? [graph, {}] : graph;
      const platform = name === 'marshal-defaults' ? {} : { platform: 'linux/amd64' };
      const definition = await state.marshal({ ...platform, localUniqueId: 'unique', ...options });
      const bytes = definition.toBytes();
      assert.equal(messageDigests(bytes).at(-1), expected[name]?.last);
      assert.equal(createHash('sha256').update(bytes).digest('hex'), expected[name]?.definition);
    }
  });
}
