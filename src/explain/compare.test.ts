import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../base/digest.ts';
import { type CompareFiles, explainBuild } from './compare.ts';
import type { EndedStep, KeptBuild } from './kept.ts';
import { causeText } from './text.ts';
import type { StepExplanation } from './types.ts';

type Some = Partial<EndedStep> & { readonly name: string };

function step({ name, ...more }: Some): EndedStep {
  const keys = more.keys ?? [`key of ${name}`];
  return {
    name,
    vertex: digestOf(name) as Digest,
    kind: 'exec',
    facts: {},
    pin: '',
    inputs: [],
    contents: (more.inputs ?? []).map(() => ''),
    end: 'done',
    ran: false,
    matches: keys,
    ignoreCache: false,
    passing: false,
    lost: undefined,
    ...more,
    keys,
  };
}

const kept = (steps: readonly EndedStep[], at = 1): KeptBuild => ({ args: [], at, steps });
const noFiles: CompareFiles = async () => undefined;

async function why(
  now: readonly EndedStep[],
  earlier: readonly KeptBuild[],
  compareFiles = noFiles,
): Promise<Record<string, string[]>> {
  const { steps } = await explainBuild({ args: ['ARG'], steps: now }, earlier, compareFiles);
  const line = ({ cached, causes }: StepExplanation) => [
    ...(cached ? ['cached'] : []),
    ...causes.map(causeText),
  ];
  return Object.fromEntries(steps.map((one) => [one.name, line(one)]));
}

const GONE = 'its result was in the cache once and has been pruned';
const NONE = 'nothing is kept of an earlier run of it';

test('own changes are told before those of inputs, which lead to their own', async () => {
  const before = [
    step({ name: 'a', facts: { 'env X': '1' } }),
    step({ name: 'b', inputs: [0], facts: { 'command ': 'old' } }),
  ];
  const now = [
    step({ name: 'a', facts: { 'env X': '2' }, keys: ['new a'], ran: true }),
    step({ name: 'b', inputs: [0], facts: { 'command ': 'new' }, keys: ['new b'], ran: true }),
  ];
  assert.deepEqual(await why(now, [kept(before)]), {
    a: ['variable X changed: 1 -> 2'],
    b: ['the command changed: old -> new', 'step a is another one'],
  });
});

test('an input that was cached and is another one is told of as well, as far as it leads', async () => {
  const chain = (x: string, ran: boolean) => [
    step({ name: 'a', facts: { 'env ARG': x }, keys: [`a${x}`] }),
    step({ name: 'b', inputs: [0], keys: [`b${x}`] }),
    step({ name: 'c', inputs: [1], keys: [`c${x}`], ran }),
  ];
  assert.deepEqual(await why(chain('2', true), [kept(chain('1', false))]), {
    a: ['cached', 'build argument ARG changed: 1 -> 2'],
    b: ['cached', 'step a is another one'],
    c: ['step b is another one'],
  });
});

test('all is as it was: pruned, unfinished, damaged; asked to ignore; passing; new', async () => {
  const a = step({ name: 'a', ran: true });
  assert.deepEqual(await why([a], [kept([step({ name: 'a' })])]), { a: [GONE] });
  assert.deepEqual(await why([a], [kept([step({ name: 'a', end: 'failed' })])]), {
    a: ['its earlier run failed or was cancelled'],
  });
  assert.deepEqual(await why([step({ name: 'a', ran: true, lost: 'no blob' })], [kept([a])]), {
    a: ['the record of its result could not be used (no blob)'],
  });
  assert.deepEqual(
    await why([step({ name: 'a', ran: true, ignoreCache: true, facts: { 'env A': '1' } })], [kept([a])]),
    {
      a: ['the build was asked to ignore the cache'],
    },
  );
  assert.deepEqual(await why([step({ name: 'a', ran: true, passing: true })], [kept([a])]), {
    a: ['what a client sends is never kept'],
  });
  assert.deepEqual(await why([step({ name: 'z', ran: true })], [kept([a])]), { z: [NONE] });
});

test('a step on top of one that ignored the cache ran because of that, although its key is the same', async () => {
  const before = [step({ name: 'a' }), step({ name: 'b', inputs: [0] })];
  const now = [
    step({ name: 'a', ran: true, ignoreCache: true, matches: [] }),
    step({ name: 'b', inputs: [0], ran: true }),
  ];
  const found = await why(now, [kept(before)]);
  assert.deepEqual(found.b, ['step a is another one']);
  assert.deepEqual(found.a, ['the build was asked to ignore the cache']);
});

test('files of an input are named; equal content is no cause although the input is another one', async () => {
  const from = (content: string, key: string, ran = false) => [
    step({ name: 'in', keys: [key], facts: { 'source ': 'local://context' }, passing: true, ran }),
    step({ name: 'copy', inputs: [0], contents: [content], keys: [`copy ${content}`], ran }),
  ];
  const named = [{ path: '/a', change: 'content', old: '', new: '' }] as const;
  const files: CompareFiles = async (before, after) =>
    before === 'one' && after === 'two' ? { named, more: 2 } : undefined;
  assert.deepEqual((await why(from('two', 'k2', true), [kept(from('one', 'k1'))], files)).copy, [
    'file a in the build context changed',
    '2 more files of the build context changed',
  ]);
  assert.deepEqual((await why(from('one', 'k2', true), [kept(from('one', 'k1'))], files)).copy, [GONE]);
  assert.deepEqual((await why(from('', 'k2', true), [kept(from('one', 'k1'))], files)).copy, [
    'files of the build context changed (which ones is not known)',
  ]);
});

test('of several builds the nearest finished step is compared, not what only stands in its place', async () => {
  const one = (value: string, more: Partial<EndedStep> = {}) =>
    step({ name: '[1/1] RUN x', facts: { 'env A': value, 'env B': value }, ...more });
  const now = [one('3', { ran: true, facts: { 'env A': '3', 'env B': '1' } })];
  const found = await why(now, [kept([one('2')], 2), kept([one('1')], 1)]);
  assert.deepEqual(found['[1/1] RUN x'], ['variable A changed: 1 -> 3']);
  const failed = await why(now, [kept([one('3', { end: 'failed' })], 2), kept([one('2')], 1)]);
  assert.equal(failed['[1/1] RUN x']?.length, 2);

  const other = [
    step({ name: '[1/3] FROM a' }),
    step({ name: '[2/3] RUN old' }),
    step({ name: '[3/3] RUN c' }),
  ];
  const mine = [step({ name: '[1/2] FROM a' }), step({ name: '[2/2] RUN c' })];
  const added = [
    step({ name: '[1/3] FROM a' }),
    step({ name: '[2/3] RUN b', ran: true }),
    step({ name: '[3/3] RUN c', inputs: [1], ran: true }),
  ];
  assert.deepEqual((await why(added, [kept(mine, 2)]))['[2/3] RUN b'], [NONE]);
  assert.notDeepEqual((await why(added, [kept(other, 2)]))['[2/3] RUN b'], [NONE]);
});

test('a base by digest and by name, another source by what it resolved to', async () => {
  const base = (ref: string, ran = false) =>
    step({
      name: `[1/1] FROM ${ref}`,
      kind: 'source',
      keys: [ref],
      facts: { 'source ': `docker-image://${ref}` },
      ran,
    });
  const digest = (hex: string) => `docker.io/library/x:1@sha256:${hex.repeat(64)}`;
  const causes = async (now: EndedStep, before: EndedStep) =>
    Object.values(await why([now], [kept([before])]))[0];
  assert.deepEqual(await causes(base(digest('b'), true), base(digest('a'))), [
    'base image x:1 changed: sha256:aaaaaaaaaaaa -> sha256:bbbbbbbbbbbb',
  ]);
  assert.deepEqual(await causes(base('docker.io/library/x:2', true), base('docker.io/library/x:1')), [
    'the base image changed: x:1 -> x:2',
  ]);
  const git = (pin: string, ran = false) =>
    step({ name: 'git', kind: 'source', facts: { 'source ': 'git://g' }, pin, keys: [pin], ran });
  assert.deepEqual(await causes(git('c2', true), git('c1')), ['the source git://g changed: c1 -> c2']);
});

test('bounds: causes of a step, steps of a build', async () => {
  const env = (n: number) =>
    Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`env V${i}`, String(n)]));
  const many = await why(
    [step({ name: 'a', ran: true, facts: env(2) })],
    [kept([step({ name: 'a', facts: env(1) })])],
  );
  assert.equal(many.a?.length, 50);
  const steps = Array.from({ length: 800 }, (_, i) => step({ name: `s${i}`, ran: true }));
  assert.equal(Object.keys(await why(steps, [])).length, 500);
});
