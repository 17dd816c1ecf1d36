import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { type Definition, Op } from './ops.ts';
import { parseDefinition, walkVertexes } from './parse.ts';
import { rewriteSources } from './rewrite.ts';

function graph(): { definition: Definition; digests: Digest[] } {
  const def: Uint8Array[] = [];
  const add = (op: Parameters<typeof Op.fromPartial>[0]): Digest => {
    const bytes = Op.encode(Op.fromPartial(op)).finish();
    def.push(bytes);
    return digestOf(bytes);
  };
  const source = (identifier: string) =>
    add({ op: { $case: 'source', value: { identifier, attrs: { a: 'b' } } } });
  const one = source('docker-image://one');
  const two = source('docker-image://two');
  const merge = (inputs: Digest[]) =>
    add({
      inputs: inputs.map((digest) => ({ digest, index: 0n })),
      op: { $case: 'merge', value: { inputs: inputs.map((_, i) => ({ input: BigInt(i) })) } },
    });
  const both = merge([one, two]);
  const top = merge([both, two]);
  const last = add({ inputs: [{ digest: top, index: 0n }] });
  const named = (name: string) => ({ description: { 'llb.customname': name } });
  const definition: Definition = {
    def,
    metadata: Object.fromEntries(
      [one, two, both, top, last].map((digest, i) => [digest, { ...metadata(), ...named(`n${i}`) }]),
    ),
    Source: { infos: [], locations: { [both]: { locations: [] } } },
  };
  return { definition, digests: [one, two, both, top, last] };
}

function metadata() {
  return {
    ignoreCache: false,
    description: {},
    exportCache: undefined,
    caps: {},
    progressGroup: undefined,
    linuxResources: undefined,
  };
}

test('what stands on a changed source gets new digests, with its metadata and places', async () => {
  const { definition, digests } = graph();
  const seen: string[] = [];
  const changed = await rewriteSources(definition, async ({ op }) => {
    assert.ok(op?.$case === 'source');
    seen.push(op.value.identifier);
    if (op.value.identifier !== 'docker-image://one') return false;
    op.value.identifier = 'docker-image://other';
    return true;
  });
  assert.deepEqual(seen.sort(), ['docker-image://one', 'docker-image://two']);
  const vertexes = [...walkVertexes(parseDefinition(changed))];
  assert.deepEqual(vertexes.map(({ name }) => name).sort(), ['n0', 'n1', 'n2', 'n3']);
  const sources = vertexes.flatMap(({ spec }) =>
    spec.op.op?.$case === 'source' ? [spec.op.op.value.identifier] : [],
  );
  assert.deepEqual(sources.sort(), ['docker-image://other', 'docker-image://two']);
  const kept = vertexes.filter(({ digest }) => digests.includes(digest));
  assert.deepEqual(
    kept.map(({ name }) => name),
    ['n1'],
    'only what does not stand on the changed one',
  );
  const both = vertexes.find(({ name }) => name === 'n2');
  assert.deepEqual(Object.keys(changed.Source?.locations ?? {}), [both?.digest]);
});

test('an unchanged definition is the same one, in whatever order it came', async () => {
  const { definition } = graph();
  assert.equal(await rewriteSources(definition, async () => false), definition);
  const last = definition.def.at(-1) as Uint8Array;
  const shuffled = { ...definition, def: [...definition.def.slice(0, -1).reverse(), last] };
  const changed = await rewriteSources(shuffled, async (op) => {
    if (op.op?.$case === 'source') op.op.value.attrs = {};
    return true;
  });
  assert.equal([...walkVertexes(parseDefinition(changed))].length, 4);
});

test('junk is refused, a missing input is left to the parser', async () => {
  const { definition } = graph();
  await assert.rejects(
    rewriteSources({ ...definition, def: [Buffer.from([255])] }, async () => true),
    /failed to parse llb proto op/,
  );
  const cut = await rewriteSources({ ...definition, def: definition.def.slice(1) }, async () => true);
  assert.throws(() => parseDefinition(cut), /invalid missing input digest/);
});
